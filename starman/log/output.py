"""Writes to the file, pipe, terminal or socket of a log without blocking.

O_NONBLOCK is a property of the open file, which standard error and standard output share with the shell and other
programs. So it is never set on the shared file. Where the system allows it (Linux: /proc/self/fd), the file is opened
anew with O_NONBLOCK. Elsewhere, a write uses RWF_NOWAIT, or follows a poll.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import sys
import termios

# The descriptors of the logs have numbers from here on, or just below the limit if that is lower, because programs
# may close the first descriptors. Not higher, because the kernel's table of descriptors grows with the largest
# number.
_LOWEST = 1000
_BELOW_THE_LIMIT = 8
# The descriptors below are standard input, output and error.
FIRST_FREE = 3

_PIPE_SIZE = getattr(fcntl, "F_GETPIPE_SZ", None)
_NOWAIT = getattr(os, "RWF_NOWAIT", 0) if hasattr(os, "pwritev") else 0
# Errors of pwritev when the file or the system does not support RWF_NOWAIT.
_UNKNOWN = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.ESPIPE)


class Output:
    """One thread at a time.

    fd: the descriptor, which is not inherited by other programs. most_bytes: the largest write that is not mixed with
    writes of other processes; 0: no limit (a file). takes_text: whether the output is a file, pipe, terminal or socket
    to which any program may write text.
    """

    takes_text = True

    __slots__ = ("_borrowed", "_identity", "_nowait", "_polled", "fd", "most_bytes")

    def __init__(self, fd: int, *, borrow: bool = False) -> None:
        """Write to the file of descriptor `fd`, by a descriptor of our own with a high number; `borrow`: by `fd`
        itself.

        Raises OSError when `fd` is closed or no descriptor is left.
        """
        self._borrowed = borrow
        self._take(fd)

    def _take(self, fd: int) -> None:
        self._identity = _identity(fd)
        is_file = stat.S_ISREG(os.fstat(fd).st_mode)
        self.most_bytes = 0 if is_file else select.PIPE_BUF
        own = -1
        if not (is_file or self._borrowed):
            own = _opened_anew(fd, self._identity)
        self._nowait = not is_file and own < 0 and bool(_NOWAIT)
        self._polled = not is_file and own < 0 and not _NOWAIT
        if self._borrowed:
            self.fd = fd
        elif own >= 0:
            try:
                self.fd = duplicate_high(own)
            finally:
                os.close(own)
        else:
            self.fd = duplicate_high(fd)

    @property
    def usable(self) -> bool:
        """Whether the descriptor still leads to the same file: an application may have closed it, so its number may
        be reused."""
        try:
            return _identity(self.fd) == self._identity
        except OSError:
            return False

    def same_as(self, fd: int) -> bool:
        """Whether descriptor `fd` leads to the same file."""
        try:
            return _identity(fd) == self._identity
        except OSError:
            return False

    def write(self, data: bytes) -> int:
        """Write as much of `data` as is taken at once, and return how many bytes that is.

        Raises BlockingIOError when nothing is taken now. Raises another OSError when nothing can be written any more:
        the reader is gone, or the descriptor is not ours any more.
        """
        if not self.usable:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        if self._nowait:
            try:
                return os.pwritev(self.fd, [data], -1, _NOWAIT)
            except OSError as error:
                if error.errno not in _UNKNOWN:
                    raise
                self._nowait, self._polled = False, True
        if self._polled:
            poll = select.poll()
            poll.register(self.fd, select.POLLOUT)
            if not poll.poll(0):
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            data = data[: select.PIPE_BUF]
        return os.write(self.fd, data)

    def has_room(self, size: int) -> bool:
        """Whether a write of `size` bytes will probably be taken as a whole. A pipe may take the beginning of a longer
        write only, and then takes those of other processes."""
        if not self.most_bytes or size <= self.most_bytes or _PIPE_SIZE is None:
            return True
        try:
            capacity = fcntl.fcntl(self.fd, _PIPE_SIZE)
            waiting = int.from_bytes(fcntl.ioctl(self.fd, termios.FIONREAD, bytes(4)), sys.byteorder)
        except OSError:  # it is no pipe
            return True
        # A page of the pipe may be filled in part only.
        return not waiting or 2 * waiting + size <= capacity

    def take_lost(self) -> int:
        """How many entries that `write` has taken are known to be lost since the last call."""
        return 0

    def wait(self, seconds: float) -> bool:
        """Wait until a write may be taken. False: not within so many seconds. True at once for a file."""
        if seconds <= 0:
            return False
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def move(self, fd: int) -> None:
        """From now on, write to the file of `fd`, if possible by the same descriptor number as before. Raises OSError
        when no descriptor is left, and then changes nothing."""
        new = Output(fd)
        old, usable = self.fd, self.usable
        self._identity, self._nowait, self._polled = new._identity, new._nowait, new._polled
        self.most_bytes, self.fd, self._borrowed = new.most_bytes, new.fd, False
        if not usable or old < FIRST_FREE:
            return
        try:
            os.dup2(new.fd, old, inheritable=False)
        except OSError:  # the limit of descriptors is lower now
            os.close(old)
        else:
            os.close(new.fd)
            self.fd = old

    def close(self) -> None:
        """Give the descriptor back, if it is ours. May be called more than once."""
        if self.fd >= 0 and not self._borrowed and self.usable:
            os.close(self.fd)
        self.fd = -1


def duplicate_high(fd: int) -> int:
    """A duplicate of `fd` with a high number, which other programs do not inherit. Raises OSError when there is none
    left."""
    limit = os.sysconf("SC_OPEN_MAX")
    lowest = _LOWEST if limit < 0 else max(FIRST_FREE, min(_LOWEST, limit - _BELOW_THE_LIMIT))
    with contextlib.suppress(OSError):
        return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, lowest)
    return fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE)


def open_for_appending(path: str) -> int:
    """Open the log file at `path`, or make it. Never waits: a FIFO that no process reads is an OSError that says so.
    The file itself is blocking, as a program expects of its standard error."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno == errno.ENXIO:
            kind = kind_of(os.stat(path).st_mode)
            if kind == "a FIFO":
                raise OSError(errno.ENXIO, "it is a FIFO that no process reads") from None
            raise OSError(errno.ENXIO, f"it is {kind}, which cannot be opened as a file") from None
        raise
    os.set_blocking(fd, True)
    return fd


def kind_of(mode: int) -> str:
    """The kind of a file with this mode, in words."""
    kinds = {stat.S_IFREG: "a file", stat.S_IFDIR: "a directory", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


def _identity(fd: int) -> tuple[int, int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino, found.st_rdev


def _opened_anew(fd: int, identity: tuple[int, int, int]) -> int:
    """A non-blocking file of our own for the pipe or terminal of `fd`; -1 where the system gives none."""
    path = f"/proc/self/fd/{fd}"
    try:
        # Opening /dev/ptmx would create a new terminal.
        if os.readlink(path).endswith("ptmx"):
            return -1
        own = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError:
        return -1
    if _identity(own) != identity:
        os.close(own)
        return -1
    return own
