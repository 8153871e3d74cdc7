"""The title of a process, as ps and top show it. Linux only, elsewhere a no-op. Imports only `proc_stat`.

Never stops a server: what the system refuses stays as it was.
"""

from __future__ import annotations

import os

from starman.process.proc_stat import FIRST_FIELD, read_fields

# The kernel keeps this many bytes of a process's short name (what `ps -o comm` and `top` show).
_SHORT_BYTES = 15


def set_title(text: str) -> None:
    """Show `text` as the title of this process: `starman worker 3 app:app`. Main thread.

    The title replaces the command line in memory, so it is cut off at the length of the command line.
    """
    raw = text.encode("utf-8", "backslashreplace").replace(b"\0", b" ")
    for show in (_set_command_line, _set_short_name):
        try:
            show(raw)
        except (OSError, ValueError, IndexError):
            continue


def _set_short_name(raw: bytes) -> None:
    with open("/proc/self/comm", "wb", buffering=0) as file:
        # Two words: os.fork splits /proc/self/stat at spaces. One more, and it takes the priority for the number of
        # threads and warns of them, which `-W error` makes an error on CPython 3.15.
        file.write(b" ".join(raw[:_SHORT_BYTES].split(b" ")[:2]).rstrip())


def _set_command_line(raw: bytes) -> None:
    fields = read_fields("self")
    # proc(5): fields 48 and 49, arg_start and arg_end.
    start, end = int(fields[48 - FIRST_FIELD]), int(fields[49 - FIRST_FIELD])
    if not 0 < start < end:
        return
    # The last byte stays NUL: otherwise the kernel reads on into the environment.
    room = end - start - 1
    # Through the file, not through ctypes: a wrong address is an OSError and not a crash, and no worker imports
    # ctypes.
    memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(memory, raw[:room].ljust(room + 1, b"\0"), start)
    finally:
        os.close(memory)
