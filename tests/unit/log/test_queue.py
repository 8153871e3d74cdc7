"""starman.log.queue and starman.log.output: lines reach a reader whole or are counted, and no thread waits for that
reader."""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from starman.log import output as output_module
from starman.log import queue as queue_module
from starman.log.output import Output, duplicate_high, open_for_appending
from starman.log.queue import MOST_BYTES, LogQueue, pieces_of
from tests.unit.process.forked import run_forked


def notice(count: int, reason: str) -> bytes:
    return f"{count} lost: {reason}\n".encode()


def notices(count: int, reason: str) -> list[bytes]:
    return [notice(count, reason)]


@contextmanager
def standard_error(fd: int) -> Iterator[LogQueue]:
    """A queue with `fd` as descriptor 2."""
    kept = os.dup(2)
    os.dup2(fd, 2)
    queue = LogQueue(notices)
    try:
        assert queue.open_output()
        yield queue
    finally:
        queue.close_output()
        os.dup2(kept, 2)
        os.close(kept)


def read_all(fd: int) -> bytes:
    """What there is to read now."""
    os.set_blocking(fd, False)
    data = b""
    try:
        while more := os.read(fd, 1 << 16):
            data += more
    except BlockingIOError:
        pass
    return data


def unread_pipe() -> tuple[int, int]:
    return os.pipe()


def unread_socket() -> tuple[int, int]:
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()


def unread_terminal() -> tuple[int, int]:
    ours, theirs = os.openpty()
    return ours, theirs


@pytest.mark.parametrize(
    ("unread", "way"),
    [
        *((unread_pipe, way) for way in ("anew", "nowait", "polled")),
        *((unread_socket, way) for way in ("nowait", "polled")),
        (unread_terminal, "anew"),
    ],
)
def test_a_reader_that_does_not_read_holds_up_no_writer(
    unread: Callable[[], tuple[int, int]], way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On every way to write: by a file of our own, by a flag of the write, by a look before it."""
    if way != "anew":
        monkeypatch.setattr(output_module, "_opened_anew", lambda fd, identity: -1)
    if way == "polled":
        monkeypatch.setattr(output_module, "_NOWAIT", 0)
    reading, writing = unread()
    with standard_error(writing) as queue:
        count = 3 * MOST_BYTES // 1000
        for number in range(count):
            queue.put([b"%06d %s\n" % (number, b"x" * 990)])
        assert os.get_blocking(writing), "the file is not ours alone"
        assert queue.pending
        received = b""
        while queue.pending:
            received += read_all(reading)
            queue.write_pending()
        received += read_all(reading)
        os.close(reading)
        os.close(writing)
    lines = received.replace(b"\r\n", b"\n").splitlines(keepends=True)
    *written, last = lines
    lost = int(last.split()[0])
    assert last == notice(lost, "nothing read them in time")
    assert [int(line.split()[0]) for line in written] == list(range(count - lost))
    assert all(len(line) == 998 for line in written)
    assert len(written) >= MOST_BYTES // 1000


def test_a_loss_is_told_before_the_next_line_that_is_taken() -> None:
    reading, writing = os.pipe()
    with standard_error(writing) as queue:
        while queue._lost < 3:
            queue.put([b"x" * 4000 + b"\n"])
        read_all(reading)
        queue.put([b"next\n"])
        while queue.pending:
            read_all(reading)
            queue.write_pending()
        queue.put([b"again\n"])
        assert read_all(reading).endswith(b"x\n3 lost: nothing read them in time\nnext\nagain\n")
    os.close(reading)
    os.close(writing)


def test_a_reader_that_is_gone_costs_the_lines_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = open_for_appending(str(path))
    with standard_error(writing) as queue:
        os.close(reading)
        queue.put([b"first\nsecond\n"])
        queue.put([b"third\n"])
        assert not queue.pending
        reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        queue.put([b"fourth\n"])
        assert read_all(reading) == notice(3, os.strerror(errno.EPIPE)) + b"fourth\n"
    os.close(reading)
    os.close(writing)


def test_a_full_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writing = open_for_appending(str(tmp_path / "log"))
    with standard_error(writing) as queue:
        room = [2, 0]

        def full(self: Output, data: bytes) -> int:
            if room and room[0]:
                return write(self, data[: room.pop(0)])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        write = Output.write
        monkeypatch.setattr(Output, "write", full)
        queue.put([b"first\n"])
        queue.put([b"second\n"])
        assert queue.pending
        monkeypatch.undo()
        queue.write_pending()
        assert not queue.pending
    os.close(writing)
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\n"


def test_lines_that_wait_follow_the_log_to_its_new_file(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    with standard_error(writing) as queue:
        while not queue.pending:
            queue.put([b"x" * 1000 + b"\n"])
        read_all(reading)
        assert queue.output is not None
        number = queue.output.fd
        os.dup2(open_for_appending(str(tmp_path / "log")), 2)
        queue.renew_output()
        assert queue.output.fd == number
        queue.put([b"next\n"])
    assert (tmp_path / "log").read_bytes().endswith(b"x\nnext\n")
    assert read_all(reading) == b""
    os.close(reading)
    os.close(writing)


def test_a_line_of_which_a_part_was_written_is_whole_in_the_new_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = open_for_appending(str(tmp_path / "old")), open_for_appending(str(tmp_path / "new"))
    with standard_error(old) as queue:
        write = Output.write

        def write_two_bytes(self: Output, data: bytes) -> int:
            if (tmp_path / "old").stat().st_size:
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
            return write(self, data[:2])

        monkeypatch.setattr(Output, "write", write_two_bytes)
        queue.put([b"first\n"])
        assert queue.pending
        monkeypatch.undo()
        os.dup2(new, 2)
        queue.renew_output()
        queue.put([b"second\n"])
    os.close(old)
    os.close(new)
    assert (tmp_path / "old").read_bytes() == b"fi"
    assert (tmp_path / "new").read_bytes() == b"first\nsecond\n"


def test_the_queue_of_a_fork_is_empty_and_its_lock_is_free() -> None:
    reading, writing = os.pipe()
    with standard_error(writing) as queue:
        while not queue.pending:
            queue.put([b"x" * 1000 + b"\n"])
        with queue._lock:
            assert run_forked(lambda: f"{queue.pending} {queue._lock.acquire(False)}") == "False True"
        assert queue.pending
    os.close(reading)
    os.close(writing)


def test_a_signal_handler_that_logs_while_its_thread_logs_neither_waits_nor_loses_its_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The thread holds the lock of the queue, and cannot release it before the handler returns."""
    monkeypatch.setattr(queue_module, "_LOCK_SECONDS", 20.0)
    reading, writing = os.pipe()
    waited: list[float] = []
    write = Output.write

    def write_and_be_interrupted(output: Output, data: bytes) -> int:
        if data.startswith((b"pending", b"second")):
            os.kill(os.getpid(), signal.SIGUSR1)
        return write(output, data)

    with standard_error(writing) as queue:

        def handle(*_: object) -> None:
            began = time.monotonic()
            queue.put([b"handler\n"])
            waited.append(time.monotonic() - began)

        previous = signal.signal(signal.SIGUSR1, handle)
        try:
            queue._add(b"pending\n", 1)
            monkeypatch.setattr(Output, "write", write_and_be_interrupted)
            queue.write_pending()
            queue.put([b"second\n"])
        finally:
            signal.signal(signal.SIGUSR1, previous)
    os.close(writing)
    assert read_all(reading) == b"pending\nhandler\nsecond\nhandler\n"
    os.close(reading)
    assert max(waited) < 10


def test_threads_lose_no_line_and_cut_none() -> None:
    reading, writing = os.pipe()
    received = b""

    def read() -> None:
        nonlocal received
        while data := os.read(reading, 5000):
            received += data

    def write(number: int) -> None:
        for turn in range(200):  # all of them have room in the queue, should the reader be late
            queue.put([f"{number} {turn} {'x' * (turn * 37 % 2000)}\n".encode()])

    reader = threading.Thread(target=read)
    reader.start()
    with standard_error(writing) as queue:
        threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        queue.finish_writing(10.0)
        assert not queue.pending
    os.close(writing)
    reader.join()
    os.close(reading)
    lines = [line.split() for line in received.decode().splitlines()]
    assert sorted((int(line[0]), int(line[1])) for line in lines) == [
        (number, turn) for number in range(4) for turn in range(200)
    ]


def test_pieces_are_whole_lines_and_long_lines_are_folded() -> None:
    entry = b"".join(b"%d %s\n" % (number, b"x" * (number * 7 % 90)) for number in range(50))
    pieces = list(pieces_of(entry, 100))
    assert b"".join(pieces) == entry
    assert all(len(piece) <= 100 and piece.endswith(b"\n") for piece in pieces)
    assert list(pieces_of(entry, 0)) == [entry]
    folded = list(pieces_of(("é" * 100 + "\nend\n").encode(), 64))
    assert all(len(piece) <= 64 and piece.endswith(b"\n") for piece in folded)
    text = b"".join(folded).decode()  # no character is cut
    assert text.replace("\n  ", "") == "é" * 100 + "\nend\n"


def test_our_descriptor_is_high_and_not_inherited() -> None:
    reading, writing = os.pipe()
    with standard_error(writing) as queue:
        assert queue.output is not None
        assert queue.output.fd >= 256
        assert not os.get_inheritable(queue.output.fd)
        assert not fcntl.fcntl(2, fcntl.F_GETFL) & os.O_NONBLOCK
    assert duplicate_high(writing) >= 256
    os.close(reading)
    os.close(writing)


def test_a_descriptor_that_an_application_has_closed_is_had_again_or_never_used() -> None:
    reading, writing = os.pipe()
    victim, others = os.pipe()
    with standard_error(writing) as queue:
        assert queue.output is not None
        os.dup2(others, queue.output.fd)  # closed, and another file's by now
        queue.put([b"by descriptor 2\n"])
        assert read_all(reading) == b"by descriptor 2\n"
        os.dup2(others, queue.output.fd)
        os.dup2(others, 2)
        queue.put([b"nowhere\n"])
        assert not queue.pending
        assert read_all(victim) == b""
        os.close(queue.output.fd)
    for fd in (reading, writing, victim, others):
        os.close(fd)


def test_opening_does_not_wait(tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is a FIFO that no process reads"):
        open_for_appending(str(path))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(OSError, match="it is a socket, which cannot be opened as a file"):
            open_for_appending(str(tmp_path / "socket"))
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    writing = open_for_appending(str(path))
    assert os.get_blocking(writing)
    assert Output(writing).most_bytes == select.PIPE_BUF
    os.close(reading)
    os.close(writing)


def test_lines_that_two_threads_lose_at_the_same_time_are_both_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """They do not get the lock. One thread counts its lines between two steps of the other."""
    reading, writing = os.pipe()
    with standard_error(writing) as queue:
        monkeypatch.setattr(queue_module, "_LOCK_SECONDS", 0.0)
        count, others = queue_module._lines_of, [b"other\n"]

        def count_beside_another_thread(entries: list[bytes], *, whole: bool) -> int:
            if others:
                other = threading.Thread(target=queue.put, args=([others.pop()],))
                other.start()
                other.join()
            return count(entries, whole=whole)

        monkeypatch.setattr(queue_module, "_lines_of", count_beside_another_thread)
        queue._lock.acquire()
        queue.put([b"one\n", b"two\n"])
        queue._lock.release()
        queue.put([b"last\n"])
        assert notice(3, "nothing read them in time") in read_all(reading)
    os.close(reading)
    os.close(writing)
