"""The scoreboard: memory that the master shares with all workers, where each keeps what is to be known of it, alive or dead.

A message would have to be sent, by a loop that may hang or a process that was killed a moment ago; what stands here stays. The
master makes the board before its first fork, everybody else inherits it. Each worker has a page of its own, its *place*, to
which it alone writes; whoever reads finds values a moment old, and text that may be half written. There are no locks.

`read` is pure: bytes of a page in, a `Glance` out. Instants are monotonic, in seconds, of the one clock that all processes of a
machine share.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import mmap
import os
import struct
import sys
from functools import partial

from starman import log
from starman.log.in_flight import printable
from starman.process.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

# How many workers can be on the board at once, those that drain included. One more works without it: nobody watches its loop.
# Pages that nobody has touched cost nothing.
PLACES = 1024
# Of each worker, this many threads have a line on it; further ones work without.
LINES = 31
# The longest part of a request's target that is kept, in bytes, and of its method.
TARGET_BYTES = 107
METHOD_BYTES = 12

_MAGIC = b"starman scoreboard 1\n"
_PAGE = 4096
# From one place to the next. A worker maps its own page alone, so each begins where a page of the machine does.
_STRIDE = max(_PAGE, mmap.ALLOCATIONGRANULARITY)
# What a worker writes once: pid, slot, started; and at each beat: beat, finished, connections, busy, draining.
_BIRTH = struct.Struct("=2Id")
_BEAT = struct.Struct("=dQ2I?")
# And what it lets its siblings know at once: connections, crowded.
_CROWD = struct.Struct("=I?")
_CROWD_AT = _BIRTH.size + _BEAT.size
# And once it is to drain, again and again until its end: counted, in flight.
_COUNT = struct.Struct("=?I")
_COUNT_AT = _CROWD_AT + _CROWD.size
# The same page as a sibling reads it: pid, beat, draining, connections, crowded.
_SIBLING = struct.Struct("=I4x8xd8x8x?I?")
# How many places, from the first, have ever been given away: behind the magic.
_USED = struct.Struct("=I")
_USED_AT = 64
_INSTANT = struct.Struct("=d")
_SIZE = (PLACES + 1) * _STRIDE
# A worker whose loop has not been heard of for so long (seconds) is no help to its siblings.
_FORGOTTEN = 2.0
# The room of a line: busy, since, method, target. What stands before the lines has as much room together.
_LINE_BYTES = 128
_LINE = struct.Struct(f"=?d{METHOD_BYTES}s{TARGET_BYTES}s")
_UNUSED = b"\0"


class Request(Record):
    """A request that a thread runs. `line` is its method and target, in printable ASCII; `since` when it was complete."""

    __slots__ = ("line", "since")

    def __init__(self, line: str, since: float) -> None:
        self.line = line
        self.since = since


class Glance(Record):
    """What a worker's page says. The application may have written there: only the types of the values are certain.

    pid; slot: its number, from 1. started: when it was ready. beat: when its loop was last alive. As of that beat: finished: how
    many requests it has finished; connections; busy: how many threads run a request; draining: whether it is on its way out.
    requests: those that run now, the oldest first. in_flight: how many requests the worker has, including those that wait for a
    thread, arrive or are being sent, counted since it began to drain; None: it has not counted.
    """

    __slots__ = ("beat", "busy", "connections", "draining", "finished", "in_flight", "pid", "requests", "slot", "started")

    def __init__(
        self,
        birth: tuple[int, int, float],
        beat: tuple[float, int, int, int, bool],
        requests: tuple[Request, ...],
        in_flight: int | None,
    ) -> None:
        """`birth` and `beat` have their fields in the order of the page."""
        self.pid, self.slot, self.started = birth
        self.beat, self.finished, self.connections, self.busy, self.draining = beat
        self.requests = requests
        self.in_flight = in_flight


def read(page: bytes) -> Glance | None:
    """What the bytes of a place say; None when its worker has not begun to write."""
    pid, slot, started = _BIRTH.unpack_from(page)
    if not pid:
        return None
    requests = []
    for offset in range(_LINE_BYTES, _PAGE, _LINE_BYTES):
        busy, since, method, target = _LINE.unpack_from(page, offset)
        if busy:
            more = "..." if target[-1] else ""
            line = f"{printable(method.rstrip(_UNUSED))} {printable(target.rstrip(_UNUSED))}{more}"
            requests.append(Request(line, since))
    beat = _BEAT.unpack_from(page, _BIRTH.size)
    counted, in_flight = _COUNT.unpack_from(page, _COUNT_AT)
    return Glance((pid, slot, started), beat, tuple(sorted(requests, key=_age_first)), in_flight if counted else None)


def _age_first(request: Request) -> float:
    """The order of requests: what is not a number comes last."""
    return math.inf if math.isnan(request.since) else request.since


class Scoreboard:
    """The memory, for the master: gives places away, and reads them. For workers it has `place`.

    Only the master can write to all of it. A worker is given `fd` with the order to fork it, for as long as it takes to map its
    own page, and the others read-only: an application that overwrites memory cannot make the master kill another worker. Where
    memory can only be shared by fork, every process can write to all pages.

    fd: a descriptor of it (Linux), not inheritable, with which a program that this process becomes by exec can have it again
    (`of_descriptor`); -1 where memory can only be shared by fork.
    """

    __slots__ = ("_memory", "fd")

    def __init__(self, fd: int, memory: mmap.mmap) -> None:
        self.fd = fd
        self._memory = memory

    @classmethod
    def create(cls) -> Scoreboard:
        """A board without workers. Raises OSError when there is no memory, or no descriptor, for it."""
        fd = -1
        try:
            fd = _create_memory()
            board = cls(fd, mmap.mmap(fd, _SIZE))
        except OSError:
            if fd >= 0:
                os.close(fd)
            raise
        board._memory[: len(_MAGIC)] = _MAGIC
        return board

    @classmethod
    def of_descriptor(cls, fd: int) -> Scoreboard:
        """The board that was made before an exec. Owns `fd` from now on. Raises ValueError when it is none of this version,
        OSError when it cannot be had."""
        try:
            if os.fstat(fd).st_size != _SIZE or os.pread(fd, len(_MAGIC), 0) != _MAGIC:
                raise ValueError(f"descriptor {fd} is no scoreboard of this version")
            os.set_inheritable(fd, False)
            return cls(fd, mmap.mmap(fd, _SIZE))
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                os.close(fd)
            raise

    def assign(self, taken: Container[int]) -> int:
        """A place that is not among those `taken`, wiped; 0 when there is none left."""
        for number in range(1, PLACES + 1):
            if number not in taken:
                _USED.pack_into(self._memory, _USED_AT, max(number, _USED.unpack_from(self._memory, _USED_AT)[0]))
                self._memory[number * _STRIDE : number * _STRIDE + _PAGE] = bytes(_PAGE)
                return number
        return 0

    def read(self, number: int) -> Glance | None:
        """What the place `number` says now; None when that is 0 or its worker has not begun to write."""
        return read(self._memory[number * _STRIDE : number * _STRIDE + _PAGE]) if number else None

    def beat(self, number: int) -> float:
        """When the loop of the worker at place `number` was last alive, according to the worker; 0.0 when that is not known."""
        instant: float = _INSTANT.unpack_from(self._memory, number * _STRIDE + _BIRTH.size)[0] if number else 0.0
        return instant

    def place(self, number: int, fd: int = -1) -> Place | None:
        """In a worker: the place `number`, for it to write to; None for 0. Raises OSError when the pages cannot be mapped.

        fd: a copy of the master's, which stays open; -1: the memory is shared by fork. Only in a process with one thread.
        """
        if not number:
            return None
        if fd < 0:
            board = memoryview(self._memory)
            return Place(board, board[number * _STRIDE : number * _STRIDE + _PAGE], number)
        page = _map(fd, _PAGE, mmap.PROT_READ | mmap.PROT_WRITE, number * _STRIDE)
        return Place(memoryview(_read_only(fd)), memoryview(page), number)

    def abandon(self) -> None:
        """Call in a fresh fork: close the descriptor, and unmap the memory, which can be mapped again by a copy of it."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._memory.close()

    def close(self) -> None:
        """In the master, at the end."""
        self.abandon()
        self._memory.close()


def _create_memory() -> int:
    """A descriptor of memory for a board; -1 where there is no such thing. Raises OSError when there is none left."""
    if not hasattr(os, "memfd_create"):
        return -1
    try:
        fd = os.memfd_create("starman-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise
        # A sandbox, or an old kernel.
        log.warning(f"memfd_create is not available ({error.strerror}): every worker can write to the whole scoreboard")
        return -1
    try:
        os.ftruncate(fd, _SIZE)
        # If a holder of the descriptor could truncate the memory, each process that reads it would die by SIGBUS.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


def _read_only(fd: int) -> mmap.mmap:
    """The whole board, for a worker to read."""
    try:
        # Opened anew, without the right to write: otherwise mprotect(2) could make the mapping writable again.
        reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return _map(fd, _SIZE, mmap.PROT_READ)
    try:
        return _map(reader, _SIZE, mmap.PROT_READ)
    finally:
        os.close(reader)


def _map(fd: int, size: int, prot: int, offset: int = 0) -> mmap.mmap:
    """Map a part of the board, and keep no descriptor with which an application could map another part."""
    if sys.version_info >= (3, 13):
        return mmap.mmap(fd, size, prot=prot, offset=offset, trackfd=False)
    # The object keeps a duplicate, which has the lowest number that is free; /dev/null takes its place.
    number = os.dup(fd)
    os.close(number)
    memory = mmap.mmap(fd, size, prot=prot, offset=offset)
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    os.dup2(null, number, inheritable=False)
    os.close(null)
    return memory


class Place:
    """A worker's page of the board, and the board to read. The worker's loop writes all but the lines; a thread of its pool
    writes its own line only."""

    __slots__ = ("_board", "_number", "_page")

    def __init__(self, board: memoryview, page: memoryview, number: int) -> None:
        self._board = board
        self._number = number
        self._page = page

    def begin(self, pid: int, slot: int, now: float) -> None:
        """The worker of `slot` is ready, as process `pid`."""
        _BIRTH.pack_into(self._page, 0, pid, slot, now)

    def beat(self, now: float, finished: int, connections: int, busy: int, draining: bool) -> None:
        """The loop is alive. The fields are those of a `Glance`."""
        _BEAT.pack_into(self._page, _BIRTH.size, now, finished, connections, busy, draining)

    def count(self, in_flight: int) -> None:
        """The worker is to drain, or drains, and has so many requests in flight."""
        _COUNT.pack_into(self._page, _COUNT_AT, True, in_flight)

    def note(self, connections: int, *, crowded: bool) -> None:
        """Let the siblings know how many connections there are, and whether requests wait for a thread."""
        _CROWD.pack_into(self._page, _CROWD_AT, connections, crowded)

    def fewest(self, now: float) -> int | None:
        """How many connections that sibling has that has fewest, of those that live, accept and are not crowded; None: none does.

        Takes 0.5 µs for each place that was ever given away.
        """
        return min((connections for connections, crowded in self._siblings(now) if not crowded), default=None)

    def alone(self, now: float) -> bool:
        """Whether there is no sibling that lives and accepts."""
        return not any(True for _ in self._siblings(now))

    def _siblings(self, now: float) -> Iterator[tuple[int, bool]]:
        """Of each that lives and accepts: its connections, and whether it is crowded."""
        board, unpack = self._board, _SIBLING.unpack_from
        for number in range(1, _USED.unpack_from(board, _USED_AT)[0] + 1):
            pid, beat, draining, connections, crowded = unpack(board, number * _STRIDE)
            if pid and number != self._number and not draining and now - beat < _FORGOTTEN:
                yield connections, crowded

    def line(self, thread: int) -> tuple[Callable[[float, bytes, bytes], object], memoryview] | None:
        """How the thread of that number, from 0, notes the request that it runs; None when it has no line.

        The first is called with (since, method, target) before it runs one, and what is too long is cut off; setting the one byte
        of the second to 0 says that it has run it. Both together cost 0.1 µs, so that even a request that kills its process
        in no time leaves its name.
        """
        if thread >= LINES:
            return None
        line = self._page[(thread + 1) * _LINE_BYTES : (thread + 2) * _LINE_BYTES]
        return partial(_LINE.pack_into, line, 0, True), line[:1]
