"""The scoreboard: memory shared by master and workers, where each worker publishes its state.

The entries of a worker can be read when its loop hangs, and after it was killed, when it could not send a message. The
master creates the scoreboard before its first fork. Each worker has a page of its own, to which it alone writes.
Readers find values that are a moment old, and text that may be half written. There are no locks.

`read_entry` is pure: bytes of a page in, a `WorkerEntry` out. Instants are monotonic, in seconds, of the clock that
all processes of a machine share.
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
from starman.process.metrics_memory import REGION_BYTES
from starman.process.value_class import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

# How many workers can have a page at once, draining ones included. Further workers serve without a page, and without
# the watchdog. Pages that were never written cost no memory.
PAGES = 1024
# How many threads of a worker have a line for their request. Further threads run without.
LINES = 31
# How much of a request's target and of its method is kept, in bytes.
TARGET_BYTES = 99
METHOD_BYTES = 12

_MAGIC = b"starman scoreboard 4\n"
_PAGE = 4096
# From one page to the next. A worker maps its own page alone, so each begins at a page of the machine.
_STRIDE = max(_PAGE, mmap.ALLOCATIONGRANULARITY)
# Written once: pid, slot, started; and at each heartbeat: beat, finished, connections, busy, draining.
_START = struct.Struct("=2Id")
_HEARTBEAT = struct.Struct("=dQ2I?")
# Written at each change, for the siblings: connections, crowded.
_LOAD = struct.Struct("=I?")
_LOAD_AT = _START.size + _HEARTBEAT.size
# Written repeatedly from the beginning of a drain to the end: counted, in flight.
_IN_FLIGHT = struct.Struct("=?I")
_IN_FLIGHT_AT = _LOAD_AT + _LOAD.size
# The same page as a sibling reads it: pid, beat, draining, connections, crowded.
_SIBLING = struct.Struct("=I4x8xd8x8x?I?")
# How many pages, from the first, have ever been assigned: stored behind the magic.
_USED = struct.Struct("=I")
_USED_AT = 64
_INSTANT = struct.Struct("=d")
# Behind the pages, the metrics of each page (`metrics_memory.py`).
_REGION_STRIDE = max(REGION_BYTES, mmap.ALLOCATIONGRANULARITY)
_REGIONS_AT = (PAGES + 1) * _STRIDE
_SIZE = _REGIONS_AT + PAGES * _REGION_STRIDE
# A worker with a loop that has been silent for this long (seconds) does not count as a sibling.
_FORGOTTEN = 2.0
# The size of a line: busy, since, method, target, and the identifier of the thread, which is written once. The fields
# before the lines have as much room together.
_LINE_BYTES = 128
_LINE = struct.Struct(f"=?d{METHOD_BYTES}s{TARGET_BYTES}s")
_WHOLE_LINE = struct.Struct(f"=?d{METHOD_BYTES}s{TARGET_BYTES}sQ")
_UNUSED = b"\0"


class Request(Record):
    """A request in a thread. line: its method and target, in printable ASCII. since: when the request was complete.
    thread: the number of the thread, from 1. ident: the thread's identifier (`threading.get_ident`); 0: not known."""

    __slots__ = ("ident", "line", "since", "thread")

    def __init__(self, line: str, since: float, thread: int = 1, ident: int = 0) -> None:
        self.line = line
        self.since = since
        self.thread = thread
        self.ident = ident


class WorkerEntry(Record):
    """The contents of a worker's page. The application may have written there: only the types of the values are
    certain.

    pid; slot: its number, from 1. started: when the worker was ready. beat: when its loop was last alive. As of that
    instant: finished: how many requests it has finished; connections; busy: how many threads run a request; draining:
    whether it drains. requests: those that run now, the oldest first. in_flight: how many requests the worker has,
    including those that wait for a thread, arrive or are being sent, counted since it began to drain; None: not
    counted.
    """

    __slots__ = ("beat", "busy", "connections", "draining", "finished", "in_flight", "pid", "requests", "slot", "started")

    def __init__(
        self,
        start: tuple[int, int, float],
        beat: tuple[float, int, int, int, bool],
        requests: tuple[Request, ...],
        in_flight: int | None,
    ) -> None:
        """`start` and `beat` have their fields in the order of the page."""
        self.pid, self.slot, self.started = start
        self.beat, self.finished, self.connections, self.busy, self.draining = beat
        self.requests = requests
        self.in_flight = in_flight


def read_entry(page: bytes) -> WorkerEntry | None:
    """The contents of a page; None when its worker has not begun to write."""
    pid, slot, started = _START.unpack_from(page)
    if not pid:
        return None
    requests = []
    for offset in range(_LINE_BYTES, _PAGE, _LINE_BYTES):
        busy, since, method, target, ident = _WHOLE_LINE.unpack_from(page, offset)
        if busy:
            more = "..." if target[-1] else ""
            line = f"{printable(method.rstrip(_UNUSED))} {printable(target.rstrip(_UNUSED))}{more}"
            requests.append(Request(line, since, offset // _LINE_BYTES, ident))
    beat = _HEARTBEAT.unpack_from(page, _START.size)
    counted, in_flight = _IN_FLIGHT.unpack_from(page, _IN_FLIGHT_AT)
    return WorkerEntry((pid, slot, started), beat, tuple(sorted(requests, key=_age_first)), in_flight if counted else None)


def _age_first(request: Request) -> float:
    """The sort key of requests, by age. A start that is not a number comes last."""
    return math.inf if math.isnan(request.since) else request.since


def read_entry_of(board: memoryview, number: int) -> WorkerEntry | None:
    """As `Scoreboard.read_page`, of a map of the whole scoreboard (`Scoreboard.map_all`)."""
    return read_entry(bytes(board[number * _STRIDE : number * _STRIDE + _PAGE])) if number else None


class Scoreboard:
    """The memory, for the master, which assigns pages to workers and reads them. A worker calls `map_page`.

    Only the master can write to all pages. A worker receives `fd` with the order to fork it, maps its own page, and
    all other pages read-only, and closes it: an application that overwrites memory cannot make the master kill another
    worker. Where memory can only be shared through a fork, every process can write to all pages.

    fd: a descriptor of the memory (Linux), not inheritable, from which the program that this process becomes by exec
    can map it again (`of_descriptor`); -1 where memory can only be shared through a fork.
    """

    __slots__ = ("_memory", "fd")

    def __init__(self, fd: int, memory: mmap.mmap) -> None:
        self.fd = fd
        self._memory = memory

    @classmethod
    def create(cls) -> Scoreboard:
        """A scoreboard without workers. Raises OSError without memory or descriptors for it."""
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
        """The scoreboard from before an exec. Owns `fd` from now on. Raises ValueError when it belongs to another
        version, OSError when it cannot be mapped."""
        try:
            if os.fstat(fd).st_size != _SIZE or os.pread(fd, len(_MAGIC), 0) != _MAGIC:
                raise ValueError(f"descriptor {fd} is not a scoreboard of this version")
            os.set_inheritable(fd, False)
            return cls(fd, mmap.mmap(fd, _SIZE))
        except (OSError, ValueError):
            with contextlib.suppress(OSError):
                os.close(fd)
            raise

    def assign_page(self, taken: Container[int]) -> int:
        """The number of a page that is not in `taken`, cleared; 0 when all pages are taken."""
        for number in range(1, PAGES + 1):
            if number not in taken:
                _USED.pack_into(self._memory, _USED_AT, max(number, _USED.unpack_from(self._memory, _USED_AT)[0]))
                self._memory[number * _STRIDE : number * _STRIDE + _PAGE] = bytes(_PAGE)
                return number
        return 0

    def read_page(self, number: int) -> WorkerEntry | None:
        """The present contents of page `number`; None when that is 0 or its worker has not begun to write."""
        return read_entry(self._memory[number * _STRIDE : number * _STRIDE + _PAGE]) if number else None

    def heartbeat(self, number: int) -> float:
        """When the loop of the worker with page `number` was last alive, according to the worker; 0.0 when not
        known."""
        instant: float = _INSTANT.unpack_from(self._memory, number * _STRIDE + _START.size)[0] if number else 0.0
        return instant

    def map_page(self, number: int, fd: int = -1) -> WorkerPage | None:
        """Map page `number` in a worker, which writes to it; None for 0. Raises OSError when the memory cannot be
        mapped.

        fd: a copy of the master's descriptor, which stays open; -1: the memory is shared through the fork. Only in a
        process with one thread.
        """
        if not number:
            return None
        if fd < 0:
            board = memoryview(self._memory)
            return WorkerPage(board, board[number * _STRIDE : number * _STRIDE + _PAGE], number, region_of(board, number))
        page = _map(fd, _PAGE, mmap.PROT_READ | mmap.PROT_WRITE, number * _STRIDE)
        region = _map(fd, REGION_BYTES, mmap.PROT_READ | mmap.PROT_WRITE, _REGIONS_AT + (number - 1) * _REGION_STRIDE)
        return WorkerPage(memoryview(_read_only(fd)), memoryview(page), number, memoryview(region))

    def map_all(self, fd: int = -1) -> memoryview:
        """Map the whole scoreboard for reading, in the observer. `fd`: as for `map_page`. Raises OSError."""
        return memoryview(self._memory).toreadonly() if fd < 0 else memoryview(_read_only(fd))

    def abandon(self) -> None:
        """Call in a fresh fork: close the descriptor and unmap the memory, which a copy of the descriptor can map
        again. Memory without a descriptor stays mapped."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            self._memory.close()

    def close(self) -> None:
        """Call in the master, at the end."""
        self.abandon()
        self._memory.close()


def region_of(board: memoryview, number: int) -> memoryview:
    """The metrics of page `number`, from 1, in a map of the whole scoreboard."""
    at = _REGIONS_AT + (number - 1) * _REGION_STRIDE
    return board[at : at + REGION_BYTES]


def used_pages(board: memoryview) -> int:
    """How many pages, from the first, were ever assigned, in a map of the whole scoreboard."""
    used: int = _USED.unpack_from(board, _USED_AT)[0]
    return min(used, PAGES)


def _create_memory() -> int:
    """A descriptor of new memory; -1 where the system has no such memory. Raises OSError when none is left."""
    if not (hasattr(os, "memfd_create") and hasattr(fcntl, "F_ADD_SEALS")):
        return -1
    try:
        fd = os.memfd_create("starman-scoreboard", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise
        # In a sandbox, or on an old kernel.
        log.warning(f"memfd_create is not available ({error.strerror}): every worker can write to the whole scoreboard")
        return -1
    try:
        os.ftruncate(fd, _SIZE)
        # If a process could truncate the memory, each process that reads it would die by SIGBUS.
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    except OSError:
        os.close(fd)
        raise
    return fd


def _read_only(fd: int) -> mmap.mmap:
    """Map the whole scoreboard for reading, in a worker."""
    try:
        # Opened again, read-only: otherwise mprotect(2) could make the mapping writable.
        reader = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return _map(fd, _SIZE, mmap.PROT_READ)
    try:
        return _map(reader, _SIZE, mmap.PROT_READ)
    finally:
        os.close(reader)


def _map(fd: int, size: int, prot: int, offset: int = 0) -> mmap.mmap:
    """Map a part of the scoreboard, and keep no descriptor with which an application could map another part."""
    if sys.version_info >= (3, 13):
        memory = mmap.mmap(fd, size, prot=prot, offset=offset, trackfd=False)
    else:
        # The mmap object keeps a duplicate, which has the lowest free number. Replace it by /dev/null.
        number = os.dup(fd)
        os.close(number)
        memory = mmap.mmap(fd, size, prot=prot, offset=offset)
        null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(null, number, inheritable=False)
        os.close(null)
    return memory


class WorkerPage:
    """A worker's page of the scoreboard, and the pages of its siblings to read. The worker's loop writes all but the
    request lines; a thread of its pool writes its own line only.

    region: the memory of its metrics, for a `RegionWriter`."""

    __slots__ = ("_board", "_number", "_page", "region")

    def __init__(self, board: memoryview, page: memoryview, number: int, region: memoryview) -> None:
        self._board = board
        self._number = number
        self._page = page
        self.region = region

    def write_start(self, pid: int, slot: int, now: float) -> None:
        """The worker of `slot` is ready, as process `pid`."""
        _START.pack_into(self._page, 0, pid, slot, now)

    def write_heartbeat(self, now: float, finished: int, connections: int, busy: int, draining: bool) -> None:
        """The loop is alive. The parameters are fields of `WorkerEntry`."""
        _HEARTBEAT.pack_into(self._page, _START.size, now, finished, connections, busy, draining)

    def write_in_flight(self, in_flight: int) -> None:
        """The worker drains, or is about to, with this many requests in flight."""
        _IN_FLIGHT.pack_into(self._page, _IN_FLIGHT_AT, True, in_flight)

    def write_load(self, connections: int, *, crowded: bool) -> None:
        """Publish the number of connections, and whether requests wait for a thread (`crowded`), for the siblings."""
        _LOAD.pack_into(self._page, _LOAD_AT, connections, crowded)

    def fewest_connections(self, now: float) -> int | None:
        """The number of connections of the sibling that has the fewest, of those that live, accept and are not
        crowded; None: there is no such sibling.

        Takes 0.5 µs for each page that was ever assigned.
        """
        return min((connections for connections, crowded in self._siblings(now) if not crowded), default=None)

    def is_alone(self, now: float) -> bool:
        """Whether no sibling lives and accepts."""
        return not any(True for _ in self._siblings(now))

    def _siblings(self, now: float) -> Iterator[tuple[int, bool]]:
        """Connections and `crowded` of each sibling that lives and accepts."""
        board, unpack = self._board, _SIBLING.unpack_from
        for number in range(1, _USED.unpack_from(board, _USED_AT)[0] + 1):
            pid, beat, draining, connections, crowded = unpack(board, number * _STRIDE)
            if pid and number != self._number and not draining and now - beat < _FORGOTTEN:
                yield connections, crowded

    def request_recorder(self, thread: int) -> tuple[Callable[[float, bytes, bytes], object], memoryview] | None:
        """How thread number `thread`, from 0, publishes the request that it runs; None when it has no line.

        Before it runs a request, the thread calls the first item with (since, method, target); what is too long is cut
        off. After the request it sets the first byte of the second item to 0. Both together cost 0.1 µs, so even a
        request that kills its process at once leaves its name. The last eight bytes are for the thread's identifier.
        """
        if thread >= LINES:
            return None
        line = self._page[(thread + 1) * _LINE_BYTES : (thread + 2) * _LINE_BYTES]
        return partial(_LINE.pack_into, line, 0, True), line
