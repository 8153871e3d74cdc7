"""starman.process.scoreboard: what workers write is what the master reads, across a fork, an exec, and a death."""

from __future__ import annotations

import ctypes
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from starman.process import scoreboard as module
from starman.process.forking import fork
from starman.process.scoreboard import LINES, PLACES, TARGET_BYTES, Glance, Place, Request, Scoreboard, read
from tests.functional.support.harness import REPOSITORY
from tests.unit.process.forked import run_forked


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    made.close()


def place_of(board: Scoreboard, number: int) -> Place:
    place = board.place(number)
    assert place is not None
    return place


def in_child(board: Scoreboard, number: int, end: int) -> None:
    """A worker that begins, beats, takes two requests in two threads, finishes one, and is killed by `end`."""
    pid = fork()
    if pid == 0:
        try:
            place = place_of(board, number)
            place.begin(4711, 3, 10.5)
            place.beat(20.25, 123, 7, 2, True)
            place.count(5)
            for thread, since, target in ((0, 19.0, b"/b?c=d"), (5, 18.0, b"/" + b"x" * 200), (1, 17.0, b"/done")):
                line = place.line(thread)
                assert line is not None
                note, busy = line
                note(since, b"GET", target)
            busy[0] = 0
            os.kill(os.getpid(), end)
        finally:
            os._exit(99)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == end


EXPECTED = Glance(
    (4711, 3, 10.5),
    (20.25, 123, 7, 2, True),
    (Request("GET /" + "x" * (TARGET_BYTES - 1) + "...", 18.0), Request("GET /b?c=d", 19.0)),
    5,
)


def test_what_a_worker_has_written_outlives_it(board: Scoreboard) -> None:
    number = board.assign(())
    assert board.read(number) is None
    assert board.beat(number) == 0.0
    in_child(board, number, signal.SIGKILL)
    assert board.read(number) == EXPECTED
    assert board.beat(number) == 20.25
    assert board.read(board.assign({number})) is None


def test_a_place_is_wiped_for_its_next_worker(board: Scoreboard) -> None:
    in_child(board, board.assign(()), signal.SIGKILL)
    assert board.read(board.assign(())) is None


def test_where_there_is_no_place_left_nothing_is_known(board: Scoreboard) -> None:
    numbers: set[int] = set()
    for _ in range(PLACES):
        numbers.add(board.assign(numbers))
    assert numbers == set(range(1, PLACES + 1))
    assert board.assign(numbers) == 0
    assert board.place(0) is None
    assert board.read(0) is None
    assert board.beat(0) == 0.0
    in_child(board, PLACES, signal.SIGKILL)
    assert board.read(PLACES) == EXPECTED


def test_only_so_many_threads_have_a_line(board: Scoreboard) -> None:
    place = place_of(board, board.assign(()))
    place.begin(1, 1, 0.0)
    for thread in range(LINES):
        line = place.line(thread)
        assert line is not None
        line[0](float(thread), b"GET", b"/")
    assert place.line(LINES) is None
    glance = board.read(1)
    assert glance is not None
    assert [request.since for request in glance.requests] == list(range(LINES))
    assert board.read(2) is None


def test_nothing_that_a_client_sends_reaches_a_terminal(board: Scoreboard) -> None:
    place = place_of(board, board.assign(()))
    place.begin(1, 1, 0.0)
    line = place.line(0)
    assert line is not None
    line[0](0.0, b"GET", b"/\x1b[2J\n\xe9\0\\")
    glance = board.read(1)
    assert glance is not None
    assert [request.line for request in glance.requests] == ["GET /\\x1b[2J\\n\\xe9\\x00\\\\"]


def test_reading_is_pure_and_takes_any_bytes() -> None:
    assert read(bytes(4096)) is None
    glance = read(b"\xff" * 4096)
    assert glance is not None
    assert len(glance.requests) == LINES


def test_the_memory_is_shared_only_where_it_is_used(board: Scoreboard) -> None:
    assert os.fstat(board.fd).st_blocks * 512 <= 4096
    in_child(board, board.assign(()), signal.SIGKILL)
    assert os.fstat(board.fd).st_blocks * 512 <= 2 * 4096


def test_it_survives_an_exec(board: Scoreboard) -> None:
    in_child(board, board.assign(()), signal.SIGKILL)
    script = (
        "import sys; from starman.process.scoreboard import Scoreboard; fd = int(sys.argv[1]); "
        "board = Scoreboard.of_descriptor(fd); print(board.fd == fd, board.read(1)); board.place(1).beat(99.5, 1, 2, 3, False)"
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
    assert board.beat(1) == 99.5


def test_a_board_of_another_version_is_refused(board: Scoreboard, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAGIC", b"starman scoreboard 0\n")
    fd = os.dup(board.fd)
    with pytest.raises(ValueError, match="no scoreboard of this version"):
        Scoreboard.of_descriptor(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_without_memfd_it_is_shared_by_fork_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create")
    board = Scoreboard.create()
    assert board.fd == -1
    in_child(board, board.assign(()), signal.SIGKILL)
    assert board.read(1) == EXPECTED
    board.close()


def mappings() -> list[str]:
    """What this process has of the scoreboard: the permissions and sizes of its mappings."""
    with open("/proc/self/maps") as file:
        lines = [line.split() for line in file if "starman-scoreboard" in line]
    ends = [[int(end, 16) for end in line[0].split("-")] for line in lines]
    return [f"{line[1]} {end - start}" for line, (start, end) in zip(lines, ends, strict=True)]


def test_a_worker_can_write_to_its_own_page_only(board: Scoreboard) -> None:
    own, other = board.assign(()), board.assign({1})
    place_of(board, other).begin(4712, 2, 5.0)

    def as_worker() -> str:
        copy = os.dup(board.fd)
        board.abandon()
        assert mappings() == [], "a mold has none"
        before = set(os.listdir("/proc/self/fd"))
        place = board.place(own, copy)
        os.close(copy)
        assert place is not None
        assert sorted(mappings()) == [f"r--s {(PLACES + 1) * module._STRIDE}", f"rw-s {module._PAGE}"]
        for name in os.listdir("/proc/self/fd"):
            if name not in before:
                assert not os.path.exists(f"/proc/self/fd/{name}") or os.readlink(f"/proc/self/fd/{name}") == "/dev/null"
        place.begin(4711, 3, 10.5)
        place.beat(20.25, 123, 7, 2, False)
        assert place.alone(20.0)
        with pytest.raises(TypeError, match="read-only"):
            place._board[0] = 1
        # Nor by a change of the mapping: it is of a descriptor that cannot write.
        with open("/proc/self/maps") as file:
            (start, end) = next(line.split()[0].split("-") for line in file if "r--s" in line and "starman" in line)
        address, size = int(start, 16), int(end, 16) - int(start, 16)
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(size), 3) == -1
        return "fine"

    assert run_forked(as_worker) == "fine"
    glance = board.read(own)
    assert glance is not None
    assert (glance.pid, glance.beat) == (4711, 20.25)


def test_nobody_can_cut_a_page_off(board: Scoreboard) -> None:
    for size in (0, 1 << 30):
        with pytest.raises(PermissionError):
            os.ftruncate(board.fd, size)


def test_siblings_know_who_has_fewest_connections(board: Scoreboard) -> None:
    taken: list[int] = []
    for _ in range(5):
        taken.append(board.assign(taken))
    mine, busy, calm, leaving, lost = (place_of(board, number) for number in taken)
    assert mine.fewest(100.0) is None
    for place in (mine, busy, calm, leaving, lost):
        place.begin(os.getpid(), 1, 90.0)
    mine.beat(100.0, 0, 0, 0, False)
    busy.beat(100.0, 0, 0, 0, False)
    calm.beat(99.5, 0, 0, 0, False)
    leaving.beat(100.0, 0, 0, 0, True)
    lost.beat(90.0, 0, 0, 0, False)
    mine.note(1, crowded=False)
    busy.note(2, crowded=True)
    calm.note(30, crowded=False)
    leaving.note(3, crowded=False)
    lost.note(4, crowded=False)
    assert mine.fewest(100.0) == 30
    assert calm.fewest(100.0) == 1
    busy.note(5, crowded=False)
    assert mine.fewest(100.0) == 5
    assert mine.fewest(110.0) is None


def test_who_has_no_sibling_that_accepts_is_alone(board: Scoreboard) -> None:
    first = board.assign([])
    mine, another = place_of(board, first), place_of(board, board.assign([first]))
    mine.begin(os.getpid(), 1, 90.0)
    mine.beat(100.0, 0, 0, 0, False)
    assert mine.alone(100.0), "the other has not begun"
    another.begin(os.getpid(), 2, 99.0)
    another.beat(99.0, 0, 0, 0, False)
    another.note(7, crowded=True)
    assert not mine.alone(100.0)
    assert mine.alone(110.0), "nobody has heard of the other"
    another.beat(110.0, 0, 0, 0, True)
    assert mine.alone(110.0), "the other drains"


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
