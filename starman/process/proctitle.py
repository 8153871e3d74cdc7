"""The title of a process, as ps and top show it. Linux only, elsewhere a no-op. Never imports starman's other rooms.

Nothing here may stop a server: whatever the system refuses is left as it was.
"""

from __future__ import annotations

import os

from starman.process.proc_stat import FIRST_FIELD, read_fields

# The kernel keeps this many bytes of a process's short name (what `ps -o comm` and `top` show).
_SHORT_BYTES = 15


def set_title(text: str) -> None:
    """Show `text` as the title of this process: `starman worker 3 app:app`. The main thread calls.

    The place is the memory where the command line stood at the start, so what is too long for it is cut off.
    """
    raw = text.encode("utf-8", "backslashreplace").replace(b"\0", b" ")
    for show in (_set_command_line, _set_short_name):
        try:
            show(raw)
        except (OSError, ValueError, IndexError):
            continue


def _set_short_name(raw: bytes) -> None:
    with open("/proc/self/comm", "wb", buffering=0) as file:
        file.write(raw[:_SHORT_BYTES].rstrip())


def _set_command_line(raw: bytes) -> None:
    fields = read_fields("self")
    # proc(5): fields 48 and 49, arg_start and arg_end.
    start, end = int(fields[48 - FIRST_FIELD]), int(fields[49 - FIRST_FIELD])
    if not 0 < start < end:
        return
    # The last byte stays NUL: with any other there, the kernel reads on into the environment.
    room = end - start - 1
    # By way of the file, not of ctypes: a wrong address is an OSError then, and no crash, and no worker needs ctypes.
    memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(memory, raw[:room].ljust(room + 1, b"\0"), start)
    finally:
        os.close(memory)
