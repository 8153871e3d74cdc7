"""Has a child read a command line and configuration of gunicorn, and receives the settings of starman that result.

The process that becomes the master uses this module only, so it must not import anything large, and it never runs code
of the configuration. The child sends plain data.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import select
import sys

from starman.config.revision import decode_settings
from starman.config.temporary_directory import create_in_memory
from starman.errors import StarmanError, StartError
from starman.process import parent_death

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Sequence

    from starman.config.settings import Settings

# How often (milliseconds) to check whether the child has ended without an answer.
_CHECK_MILLISECONDS = 50
_LENGTH_BYTES = 8


# The command line, and the directory of the start, for the processes that are forked from this one and execute the
# configuration again, for its hooks. Set by `reader`, in the main thread.
origin: tuple[tuple[str, ...], str] | None = None
# A file in memory in which the hook process leaves for workers what on_starting has changed of gunicorn's loggers. -1:
# none could be created. Set by `reader`; the master neither reads nor writes it.
logger_changes = -1
# The same for the attributes that hooks set on `server`: also for the hook process that follows at a restart.
server_attributes = -1
# The path of the running command.
program = sys.argv[0]


class ReadingError(StarmanError):
    """The configuration cannot be used. `exit_status` is that of gunicorn."""

    def __init__(self, message: str, details: str, exit_status: int) -> None:
        super().__init__(message, details)
        self.exit_status = exit_status


class Reading:
    """What a child has read. action: see `starman.gunicorn`. notes: warnings."""

    __slots__ = ("_settings", "action", "notes", "status")

    def __init__(self, answer: dict[str, object]) -> None:
        self.action = str(answer["action"])
        notes, status = answer["notes"], answer["status"]
        assert isinstance(notes, list)
        assert isinstance(status, int)
        self.notes: tuple[str, ...] = tuple(notes)
        self.status = status
        self._settings = str(answer["settings"])

    @property
    def settings(self) -> Settings:
        """The settings of starman."""
        return decode_settings(self._settings)


def read(argv: Sequence[str], directory: str) -> Reading:
    """Fork a child that reads the command line `argv` (without "gunicorn") in `directory`, the directory of the start.

    Raises ReadingError for a wrong command line or configuration, and if there is no answer; StartError if there is no
    process for it. Main thread.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent_death.enable()
    try:
        reading, writing = os.pipe()
        parent_death.tie_next_fork(os.getpid())
        child = os.fork()
        parent_death.end_tie()
    except OSError as error:
        raise StartError(f"cannot create a process to read the configuration: {error.strerror}") from None
    if child == 0:
        _be_child(argv, directory, writing)
    os.close(writing)
    try:
        answer = _receive(reading, child)
    finally:
        os.close(reading)
    if answer["error"] is not None:
        details, status = answer["details"], answer["status"]
        assert isinstance(status, int)
        raise ReadingError(str(answer["error"]), str(details), status)
    return Reading(answer)


def _be_child(argv: Sequence[str], directory: str, pipe: int) -> None:
    """Read, send the answer, and end the process: the configuration may have started threads that never end."""
    status = 1
    try:
        from starman.gunicorn.configuration_child import answer
        from starman.gunicorn.workers.surroundings import arguments_of

        os.chdir(directory)
        sys.argv = arguments_of(program, argv)
        data = marshal.dumps(answer(argv))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        _send(pipe, len(data).to_bytes(_LENGTH_BYTES, "big") + data)
        status = 0
    except KeyboardInterrupt:
        status = 130
    except BaseException as error:
        from starman.log.tracebacks import format_exception

        sys.stderr.write(format_exception(error))
        sys.stderr.flush()
    finally:
        os._exit(status)


def _send(pipe: int, data: bytes) -> None:
    while data:
        data = data[os.write(pipe, data) :]


def _receive(pipe: int, child: int) -> dict[str, object]:
    """The answer of the child. If it ends without one, raises ReadingError with the status that a shell would report.

    A process that the configuration has left behind may hold the other end of the pipe, so the end of the child counts
    as well as the end of file.
    """
    data = b""
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    status: int | None = None
    while True:
        ready = bool(poll.poll(_CHECK_MILLISECONDS if status is None else 0))
        chunk = os.read(pipe, 65536) if ready else b""
        data += chunk
        if len(data) >= _LENGTH_BYTES and len(data) - _LENGTH_BYTES >= int.from_bytes(data[:_LENGTH_BYTES], "big"):
            break
        if status is not None and not chunk:
            how = f"the process that reads the configuration {_ended(status)} before it was done"
            raise ReadingError(how, "", status if status >= 0 else 128 - status)
        if not chunk:
            status = _status(child, os.WNOHANG if not ready else 0)
    if status is None:
        _status(child, 0)
    answer = marshal.loads(data[_LENGTH_BYTES:])
    assert isinstance(answer, dict)
    return answer


def _status(child: int, options: int) -> int | None:
    """The exit code of the child; None while it runs."""
    try:
        found, status = os.waitpid(child, options)
    except ChildProcessError:  # reaped by the embedding program or a signal handler
        return 0
    return os.waitstatus_to_exitcode(status) if found else None


def _ended(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"exited with status {code}"


def reader(argv: Sequence[str], directory: str, logged: Container[str] = ()) -> Callable[[], Settings]:
    """A function that reads the settings again, for a restart or an upgrade, and logs the warnings that are not in
    `logged`. Sets `origin` and the files in memory."""
    global logger_changes, origin, server_attributes  # noqa: PLW0603
    origin = tuple(argv), directory
    with contextlib.suppress(OSError):  # a hook that needs them says so
        logger_changes = create_in_memory("starman-loggers")
        server_attributes = create_in_memory("starman-server")

    def reread() -> Settings:
        from starman import log

        found = read(argv, directory)
        for note in found.notes:
            if note not in logged:
                log.warning(note)
        return found.settings

    return reread
