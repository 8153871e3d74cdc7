"""What is kept for clients that read slowly, in a whole service: only threads that may wait for them, and no byte is
lost."""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from starman.serving.sending import spool as spool_module
from starman.serving.sending.spool import Spool
from tests.functional.support.harness import wait_until
from tests.functional.support.wire import Client, TruncatedError, encode_request
from tests.unit.serving.running import SECONDS, Running, descriptors, hasten, reset

Start = Callable[..., Any]
Capture = pytest.CaptureFixture[str]

STEP = 160_000
SIZE = 80 * STEP
BODY = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(STEP // 32)) * (SIZE // STEP)
BLOCK = BODY[:STEP]
BLOCKS = len(BODY) // len(BLOCK)


@pytest.fixture(autouse=True)
def spools(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where spool files are, and no others: pytest has temporary files, too."""
    hasten(monkeypatch)
    path = tmp_path / "spools"
    path.mkdir()
    here = partial(tempfile.TemporaryFile, dir=path)
    monkeypatch.setattr(spool_module, "tempfile", SimpleNamespace(TemporaryFile=here))
    return path


class Application:
    """/big is finished at once; /stream is made block by block; /pause waits before its last block; all else is
    small."""

    def __init__(self) -> None:
        self.made = 0
        self.closed = threading.Semaphore(0)
        self.go_on = threading.Event()

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Any:
        path = environ["PATH_INFO"]
        start_response("200 OK", [])
        if path == "/big":
            return [BODY]
        return self.stream(path) if path in ("/stream", "/endless", "/pause", "/ticks") else [b"small"]

    def stream(self, path: str) -> Iterator[bytes]:
        try:
            number = 0
            while path in ("/endless", "/ticks") or number < BLOCKS:
                if path == "/pause" and number == BLOCKS - 1:
                    assert self.go_on.wait(SECONDS)
                yield BLOCK
                number += 1
                self.made += 1
                if path == "/ticks" and number > BLOCKS:
                    time.sleep(0.01)  # an application that has something to say now and then
        finally:
            self.closed.release()


def files() -> list[str]:
    """The spool files that are open, by descriptor."""
    return [name for name in descriptors() if "/spools/" in name]


def ask(running: Running, target: str) -> Client:
    """A client that asks, and does not read."""
    client = running.client(65_536)
    client.send(encode_request("GET", target))
    return client


def stalled(running: Running, application: Application) -> Client:
    """A client that makes the one thread wait that may, of two."""
    client = ask(running, "/stream")
    made, looks = 0, 0
    while looks < 10:
        time.sleep(0.02)  # it waits when it makes no more
        looks = looks + 1 if made and made == application.made else 0
        made = application.made
    assert application.made < BLOCKS
    return client


def body_of(client: Client) -> bytes:
    return client.read().body


# Responses that are finished


def test_what_is_left_of_a_large_response_is_in_a_file(options: dict[str, Any]) -> None:
    with Running(Application(), threads=1, response_buffer=10_000, **options) as running:
        slow = [ask(running, "/big") for _ in range(3)]
        quick = running.client()
        for _ in range(3):
            assert quick.get("/small").body == b"small"
        assert len(files()) == 3
        assert all(body_of(client) == BODY for client in slow)
        assert wait_until(lambda: not files())


def test_what_is_left_of_a_small_one_is_in_memory(options: dict[str, Any]) -> None:
    with Running(Application(), threads=1, response_buffer=len(BODY) + 1000, **options) as running:
        slow = ask(running, "/big")
        assert running.client().get("/small").body == b"small"
        assert files() == []
        assert body_of(slow) == BODY


def test_pipelined_behind_a_file(options: dict[str, Any]) -> None:
    with Running(Application(), threads=1, response_buffer=0, **options) as running:
        client = running.client(65_536)
        for target in ("/big", "/small", "/big", "/stream", "/small"):
            client.send(encode_request("GET", target))
        assert [response.body for response in client.read_many(["GET"] * 5)] == [BODY, b"small", BODY, BODY, b"small"]
        assert client.get("/small").body == b"small"


def test_heads_and_small_responses_need_no_file(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Spool, "add", _disk_is_full)
    with Running(Application(), response_buffer=0, **options) as running, running.client() as client:
        assert client.request("HEAD", "/big").body == b""
        assert client.request("HEAD", "/stream").body == b""
        assert client.get("/small").body == b"small"


# Responses that are still being made


def test_the_last_thread_does_not_wait_for_a_reader(options: dict[str, Any]) -> None:
    application = Application()
    with Running(application, threads=2, response_buffer=200_000, **options) as running:
        first = stalled(running, application)
        others = [ask(running, "/stream") for _ in range(3)]
        for _ in others:
            assert application.closed.acquire(timeout=SECONDS)
        assert running.client().get("/small").body == b"small"
        assert len(files()) == 3
        with ThreadPoolExecutor(4) as readers:
            assert all(body == BODY for body in readers.map(body_of, [*others, first]))
        assert wait_until(lambda: not files())


def test_the_only_thread_waits(options: dict[str, Any]) -> None:
    application = Application()
    with Running(application, threads=1, response_buffer=0, **options) as running:
        first = stalled(running, application)
        assert files() == []
        assert body_of(first) == BODY


def test_a_reader_that_catches_up_is_written_to_directly_again(options: dict[str, Any]) -> None:
    application = Application()
    with Running(application, threads=2, response_buffer=200_000, **options) as running:
        first = stalled(running, application)
        client = ask(running, "/pause")
        assert wait_until(lambda: bool(files()))
        client.read_head()
        received = bytearray()
        while len(received) < len(BODY) - STEP:
            size = int(client._read_until(b"\r\n"), 16)
            received += client._read_exactly(size)
            client._read_exactly(2)
        # The loop has sent all; its half of the file is closed, and the thread's when it goes on.
        application.go_on.set()
        received += client._read_chunks()
        assert received == BODY
        assert wait_until(lambda: not files())
        assert body_of(first) == BODY


def test_a_response_that_needs_more_than_its_spool_is_cut(options: dict[str, Any], capfd: Capture) -> None:
    application = Application()
    with Running(application, threads=2, response_buffer=0, response_spool="2M", **options) as running:
        first = stalled(running, application)
        greedy = ask(running, "/endless")
        assert application.closed.acquire(timeout=SECONDS)
        assert running.client().get("/small").body == b"small"
        with pytest.raises(TruncatedError):
            greedy.read()
        assert wait_until(lambda: not files())
        assert body_of(first) == BODY
    assert capfd.readouterr().err.count("its file would need more than 2097152 bytes (response_spool)") == 1


def test_a_reader_that_stops_is_cut_though_its_response_goes_on(options: dict[str, Any]) -> None:
    """What is added for it is no progress of its own."""
    application = Application()
    with Running(application, threads=2, write_timeout=0.5, **options) as running:
        first = ask(running, "/endless")  # waits, and is cut, too
        stopped = ask(running, "/ticks")
        for _ in (first, stopped):
            assert application.closed.acquire(timeout=SECONDS)
        with pytest.raises(TruncatedError):
            stopped.read()
        assert wait_until(lambda: not files())


def test_the_file_of_a_client_that_leaves_is_removed(options: dict[str, Any]) -> None:
    application = Application()
    with Running(application, threads=2, response_buffer=0, **options) as running:
        first = stalled(running, application)
        finished, endless = ask(running, "/big"), ask(running, "/ticks")
        assert wait_until(lambda: len(files()) >= 3)  # the endless one's has two descriptors
        reset(finished)
        reset(endless)
        assert application.closed.acquire(timeout=SECONDS)
        assert wait_until(lambda: not files())
        assert body_of(first) == BODY


def test_an_application_that_fails_while_it_is_spooled(options: dict[str, Any]) -> None:
    stream = Application()

    def application(environ: dict[str, Any], start_response: Start) -> Any:
        if environ["PATH_INFO"] != "/fails":
            return stream(environ, start_response)
        start_response("200 OK", [])
        return fails()

    def fails() -> Iterator[bytes]:
        for _ in range(BLOCKS):
            yield BLOCK
        raise RuntimeError("boom")

    with Running(application, threads=2, response_buffer=0, **options) as running:
        first = stalled(running, stream)
        broken = ask(running, "/fails")
        assert running.client().get("/small").body == b"small"
        with pytest.raises(TruncatedError):
            broken.read()
        assert wait_until(lambda: not files())
        assert body_of(first) == BODY


# A disk that fails


def _disk_is_full(*arguments: object, **options: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("target", ["/big", "/stream"])
def test_a_full_disk_costs_one_client(
    target: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    application = Application()
    with Running(application, threads=2, response_buffer=0, **options) as running:
        first = stalled(running, application)
        with monkeypatch.context() as patch:
            patch.setattr(Spool, "add", _disk_is_full)
            client = ask(running, target)
            logged = ""
            while "No space left on device" not in logged:
                logged += capfd.readouterr().err
            with pytest.raises((TruncatedError, ConnectionResetError)):
                client.read()
        assert running.client().get("/small").body == b"small"
        assert body_of(first) == BODY
    assert (logged + capfd.readouterr().err).count("No space left on device") == 1


# The end


def test_a_drain_waits_for_what_is_spooled(options: dict[str, Any]) -> None:
    with Running(Application(), threads=1, response_buffer=0, **options) as running:
        client = ask(running, "/big")
        assert running.client().get("/small").body == b"small"
        running.drain()
        assert body_of(client) == BODY
        running.join()


def test_after_graceful_timeout_what_is_spooled_is_cut(options: dict[str, Any]) -> None:
    with Running(Application(), threads=1, response_buffer=0, graceful_timeout=0.3, **options) as running:
        client = ask(running, "/big")
        assert running.client().get("/small").body == b"small"
        running.drain()
        running.join()
        with contextlib.suppress(ConnectionResetError), pytest.raises(TruncatedError):
            client.read()
        assert wait_until(lambda: not files())
