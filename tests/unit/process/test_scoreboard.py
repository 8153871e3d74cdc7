"""starman.process.scoreboard: what workers write is what the master reads, across a fork, an exec and a kill."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from starman.process import scoreboard as module
from starman.process.forking import fork
from starman.process.metrics_memory import REGION_BYTES
from starman.process.scoreboard import (
    LINES,
    PAGES,
    TARGET_BYTES,
    Request,
    Scoreboard,
    WorkerEntry,
    WorkerPage,
    read_entry,
    read_entry_of,
)
from starman.serving.monitor import record_thread
from tests.functional.support.harness import REPOSITORY
from tests.unit.process.forked import run_forked


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    made.close()


def page_of(board: Scoreboard, number: int) -> WorkerPage:
    page = board.map_page(number)
    assert page is not None
    return page


def in_child(board: Scoreboard, number: int, end: int) -> None:
    """A worker that starts, writes a heartbeat, runs two requests in two threads, finishes one, and is killed by
    `end`."""
    pid = fork()
    if pid == 0:
        try:
            page = page_of(board, number)
            page.write_start(4711, 3, 10.5)
            page.write_heartbeat(20.25, 123, 7, 2, True)
            page.write_in_flight(5)
            for thread, since, target in ((0, 19.0, b"/b?c=d"), (5, 18.0, b"/" + b"x" * 200), (1, 17.0, b"/done")):
                line = page.request_recorder(thread)
                assert line is not None
                note, busy = line
                note(since, b"GET", target)
            busy[0] = 0
            os.kill(os.getpid(), end)
        finally:
            os._exit(99)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == end


EXPECTED = WorkerEntry(
    (4711, 3, 10.5),
    (20.25, 123, 7, 2, True),
    (Request("GET /" + "x" * (TARGET_BYTES - 1) + "...", 18.0, 6), Request("GET /b?c=d", 19.0)),
    5,
)


def test_a_request_names_its_thread_and_all_pages_can_be_read(board: Scoreboard) -> None:
    number = board.assign_page(())
    page = page_of(board, number)
    page.write_start(4711, 3, 10.5)
    line = page.request_recorder(4)
    assert line is not None
    record, buffer = line
    record_thread(buffer)
    record(18.0, b"GET", b"/" + b"x" * 200)
    everything = board.map_all(board.fd)
    entry = read_entry_of(everything, number)
    assert entry is not None
    assert entry == board.read_page(number)
    (request,) = entry.requests
    assert (request.thread, request.ident) == (5, threading.get_ident())
    assert request.line == "GET /" + "x" * (TARGET_BYTES - 1) + "..."
    with pytest.raises(TypeError):
        everything[0] = 0
    assert read_entry_of(everything, 0) is None


def test_what_a_worker_has_written_outlives_it(board: Scoreboard) -> None:
    number = board.assign_page(())
    assert board.read_page(number) is None
    assert board.heartbeat(number) == 0.0
    in_child(board, number, signal.SIGKILL)
    assert board.read_page(number) == EXPECTED
    assert board.heartbeat(number) == 20.25
    assert board.read_page(board.assign_page({number})) is None


def test_a_page_is_cleared_for_its_next_worker(board: Scoreboard) -> None:
    in_child(board, board.assign_page(()), signal.SIGKILL)
    assert board.read_page(board.assign_page(())) is None


def test_without_a_free_page_nothing_is_known(board: Scoreboard) -> None:
    numbers: set[int] = set()
    for _ in range(PAGES):
        numbers.add(board.assign_page(numbers))
    assert numbers == set(range(1, PAGES + 1))
    assert board.assign_page(numbers) == 0
    assert board.map_page(0) is None
    assert board.read_page(0) is None
    assert board.heartbeat(0) == 0.0
    in_child(board, PAGES, signal.SIGKILL)
    assert board.read_page(PAGES) == EXPECTED


def test_only_so_many_threads_have_a_line(board: Scoreboard) -> None:
    page = page_of(board, board.assign_page(()))
    page.write_start(1, 1, 0.0)
    for thread in range(LINES):
        line = page.request_recorder(thread)
        assert line is not None
        line[0](float(thread), b"GET", b"/")
    assert page.request_recorder(LINES) is None
    entry = board.read_page(1)
    assert entry is not None
    assert [request.since for request in entry.requests] == list(range(LINES))
    assert board.read_page(2) is None


def test_nothing_that_a_client_sends_reaches_a_terminal(board: Scoreboard) -> None:
    page = page_of(board, board.assign_page(()))
    page.write_start(1, 1, 0.0)
    line = page.request_recorder(0)
    assert line is not None
    line[0](0.0, b"GET", b"/\x1b[2J\n\xe9\0\\")
    entry = board.read_page(1)
    assert entry is not None
    assert [request.line for request in entry.requests] == ["GET /\\x1b[2J\\n\\xe9\\x00\\\\"]


def test_reading_is_pure_and_takes_any_bytes() -> None:
    assert read_entry(bytes(4096)) is None
    entry = read_entry(b"\xff" * 4096)
    assert entry is not None
    assert len(entry.requests) == LINES


def test_the_memory_is_shared_only_where_it_is_used(board: Scoreboard) -> None:
    assert os.fstat(board.fd).st_blocks * 512 <= 4096
    in_child(board, board.assign_page(()), signal.SIGKILL)
    assert os.fstat(board.fd).st_blocks * 512 <= 2 * 4096


def test_it_survives_an_exec(board: Scoreboard) -> None:
    in_child(board, board.assign_page(()), signal.SIGKILL)
    script = (
        "import sys; from starman.process.scoreboard import Scoreboard; fd = int(sys.argv[1]); "
        "board = Scoreboard.of_descriptor(fd); print(board.fd == fd, board.read_page(1)); "
        "board.map_page(1).write_heartbeat(99.5, 1, 2, 3, False)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(board.fd)],
        pass_fds=[board.fd],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == f"True {EXPECTED!r}\n"
    assert board.heartbeat(1) == 99.5


def test_a_board_of_another_version_is_refused(board: Scoreboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAGIC", b"starman scoreboard 0\n")
    fd = os.dup(board.fd)
    with pytest.raises(ValueError, match="not a scoreboard of this version"):
        Scoreboard.of_descriptor(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_without_memfd_it_is_shared_by_fork_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    board = Scoreboard.create()
    assert board.fd == -1
    in_child(board, board.assign_page(()), signal.SIGKILL)
    assert board.read_page(1) == EXPECTED
    board.close()


def mappings() -> list[str]:
    """The permissions and sizes of this process's mappings of the scoreboard."""
    with open("/proc/self/maps") as file:
        lines = [line.split() for line in file if "starman-scoreboard" in line]
    ends = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    return [f"{line[1]} {end - start}" for line, (start, end) in zip(lines, ends, strict=True)]


def test_a_worker_can_write_to_its_own_page_only(board: Scoreboard) -> None:
    own, other = board.assign_page(()), board.assign_page({1})
    page_of(board, other).write_start(4712, 2, 5.0)

    def as_worker() -> str:
        copy = os.dup(board.fd)
        board.abandon()
        assert mappings() == [], "a mold has no mapping"
        before = set(os.listdir("/proc/self/fd"))
        page = board.map_page(own, copy)
        os.close(copy)
        assert page is not None
        assert sorted(mappings()) == [f"r--s {module._SIZE}", f"rw-s {REGION_BYTES}", f"rw-s {module._PAGE}"]
        for name in os.listdir("/proc/self/fd"):
            if name not in before:
                assert not os.path.exists(f"/proc/self/fd/{name}") or os.readlink(f"/proc/self/fd/{name}") == "/dev/null"
        page.write_start(4711, 3, 10.5)
        page.write_heartbeat(20.25, 123, 7, 2, False)
        assert page.is_alone(20.0)
        with pytest.raises(TypeError, match="read-only"):
            page._board[0] = 1
        # mprotect fails, too: the mapping comes from a read-only descriptor.
        with open("/proc/self/maps") as file:
            (start, end) = next(line.split()[0].split("-") for line in file if "r--s" in line and "starman" in line)
        address, size = int(start, 16), int(end, 16) - int(start, 16)
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), 3) == -1
        return "fine"

    assert run_forked(as_worker) == "fine"
    entry = board.read_page(own)
    assert entry is not None
    assert (entry.pid, entry.beat) == (4711, 20.25)


def test_the_memory_cannot_be_truncated(board: Scoreboard) -> None:
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(board.fd, size)


def test_siblings_read_the_fewest_connections(board: Scoreboard) -> None:
    taken: list[int] = []
    for _ in range(5):
        taken.append(board.assign_page(taken))
    mine, busy, calm, leaving, lost = (page_of(board, number) for number in taken)
    assert mine.fewest_connections(100.0) is None
    for page in (mine, busy, calm, leaving, lost):
        page.write_start(os.getpid(), 1, 90.0)
    mine.write_heartbeat(100.0, 0, 0, 0, False)
    busy.write_heartbeat(100.0, 0, 0, 0, False)
    calm.write_heartbeat(99.5, 0, 0, 0, False)
    leaving.write_heartbeat(100.0, 0, 0, 0, True)
    lost.write_heartbeat(90.0, 0, 0, 0, False)
    mine.write_load(1, crowded=False)
    busy.write_load(2, crowded=True)
    calm.write_load(30, crowded=False)
    leaving.write_load(3, crowded=False)
    lost.write_load(4, crowded=False)
    assert mine.fewest_connections(100.0) == 30
    assert calm.fewest_connections(100.0) == 1
    busy.write_load(5, crowded=False)
    assert mine.fewest_connections(100.0) == 5
    assert mine.fewest_connections(110.0) is None


def test_a_worker_without_accepting_siblings_is_alone(board: Scoreboard) -> None:
    first = board.assign_page([])
    mine, another = page_of(board, first), page_of(board, board.assign_page([first]))
    mine.write_start(os.getpid(), 1, 90.0)
    mine.write_heartbeat(100.0, 0, 0, 0, False)
    assert mine.is_alone(100.0), "the other has not begun"
    another.write_start(os.getpid(), 2, 99.0)
    another.write_heartbeat(99.0, 0, 0, 0, False)
    another.write_load(7, crowded=True)
    assert not mine.is_alone(100.0)
    assert mine.is_alone(110.0), "the other is silent"
    another.write_heartbeat(110.0, 0, 0, 0, True)
    assert mine.is_alone(110.0), "the other drains"


def test_without_memory_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    whole = Scoreboard.create()
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(module.mmap, "mmap", refuse)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        Scoreboard.create()
    with pytest.raises(OSError, match="Cannot allocate memory"):
        Scoreboard.of_descriptor(os.dup(whole.fd))
    assert len(os.listdir("/proc/self/fd")) == before
    whole.close()
