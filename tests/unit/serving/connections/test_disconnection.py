"""starman.serving.connections.disconnection, in a real Service: clients that leave while the application has nothing
to send."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from starman.serving.connections import disconnection
from starman.serving.sending import socket_state as socketstate_module
from tests.functional.support.harness import wait_until
from tests.functional.support.wire import Client, encode_request
from tests.unit.serving.running import SECONDS, Running, hasten, kind_of_service, reset

Start = Callable[..., Any]
UPGRADE = [("Connection", "upgrade"), ("Upgrade", "x")]


@pytest.fixture(autouse=True)
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    hasten(monkeypatch)
    monkeypatch.setattr(disconnection, "HALF_CLOSED_SECONDS", 0.2)


@pytest.fixture(params=["uvloop", "unix", "asyncio", "inline"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    return kind_of_service(request.param, tmp_path)


class Waiting:
    """Yields empty blocks until `release` is set, then "done". The path says when: at once (/), after a block
    (/begun), by `write` (/write), after half of its Content-Length (/length). The response to any other path is the
    path."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.closed = threading.Semaphore(0)
        self.release = threading.Event()
        self.pause = 0.005

    def __call__(self, environ: dict[str, Any], start_response: Start) -> Any:
        path = environ["PATH_INFO"]
        if path not in ("/", "/begun", "/write", "/length"):
            start_response("200 OK", [])
            return [path.encode()]
        write = start_response("200 OK", [("Content-Length", "8")] if path == "/length" else [])
        if path != "/write":
            return self._blocks(path)
        try:
            self.entered.release()
            while not self.release.wait(self.pause):
                write(b"")
        finally:
            self.closed.release()
        return [b"done"]

    def _blocks(self, path: str) -> Iterator[bytes]:
        try:
            if path != "/":
                yield b"half"
            self.entered.release()
            while not self.release.wait(self.pause):
                yield b""
            yield b"done"
        finally:
            self.closed.release()


@pytest.fixture
def application() -> Iterator[Waiting]:
    made = Waiting()
    yield made
    made.release.set()


def ask(client: Client, application: Waiting, path: str = "/", version: str = "1.1", **options: Any) -> None:
    request = encode_request("GET", path, **options).replace(b"HTTP/1.1", b"HTTP/" + version.encode())
    client.send(request)
    assert application.entered.acquire(timeout=SECONDS)


@pytest.mark.parametrize("path", ["/", "/begun", "/length"])
@pytest.mark.parametrize("leave", [Client.close, reset], ids=["fin", "rst"])
def test_a_generator_without_a_client_is_closed(
    application: Waiting, options: dict[str, Any], path: str, leave: Callable[[Client], None], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    with Running(application, access_log=str(log), **options) as running:
        client = running.client()
        ask(client, application, path)
        leave(client)
        assert application.closed.acquire(timeout=SECONDS)
        assert running.client().get("/next").body == b"/next"
        assert wait_until(lambda: b'"GET /next' in log.read_bytes(), SECONDS)
    assert f'"GET {path} HTTP/1.1" 499 ' in log.read_text()


@pytest.mark.parametrize("leave", [Client.close, reset], ids=["fin", "rst"])
def test_so_is_one_that_writes(application: Waiting, leave: Callable[[Client], None]) -> None:
    with Running(application) as running:
        client = running.client()
        ask(client, application, "/write")
        leave(client)
        assert application.closed.acquire(timeout=SECONDS)


@pytest.mark.parametrize("leave", [Client.close, reset], ids=["fin", "rst"])
def test_a_connection_that_is_left_unread_is_checked_too(
    application: Waiting, options: dict[str, Any], leave: Callable[[Client], None]
) -> None:
    """After a request with Upgrade, the loop reads nothing until the response."""
    with Running(application, **options) as running:
        client = running.client()
        ask(client, application, fields=UPGRADE)
        leave(client)
        assert application.closed.acquire(timeout=SECONDS)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("path", ["/", "/begun"])
def test_a_half_closed_client_gets_its_answer(
    application: Waiting, options: dict[str, Any], path: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disconnection, "HALF_CLOSED_SECONDS", 60.0)
    looks = threading.Semaphore(0)
    real = disconnection.is_reset
    monkeypatch.setattr(disconnection, "is_reset", lambda fd: looks.release() or real(fd))
    with Running(application, **options) as running, running.client() as client:
        ask(client, application, path, version)
        client.socket.shutdown(socket.SHUT_WR)
        for _ in range(10):
            assert looks.acquire(timeout=SECONDS)
        application.release.set()
        assert client.read().body == (b"done" if path == "/" else b"halfdone")


def test_data_in_between_keeps_a_half_closed_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time counts from the last byte."""
    monkeypatch.setattr(disconnection, "HALF_CLOSED_SECONDS", 2.0)
    enough = threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        for _ in range(10):
            for _ in range(30):
                yield b""
                enough.wait(0.01)
            yield b"x"

    with Running(application) as running, running.client() as client:
        client.send(encode_request("GET", "/"))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read().body == b"x" * 10


def test_the_next_response_of_a_half_closed_client_is_not_taken_for_silent() -> None:
    """The response before it yields empty blocks; this one computes, and never yields one."""
    looked = threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        if environ["PATH_INFO"] == "/slow":
            looked.wait(3 * disconnection.HALF_CLOSED_SECONDS)
            start_response("200 OK", [])
            yield b"slow"
            return
        start_response("200 OK", [])
        yield b""
        yield b"first"

    with Running(application) as running, running.client() as client:
        client.send(encode_request("GET", "/") + encode_request("GET", "/slow"))
        client.socket.shutdown(socket.SHUT_WR)
        assert [response.body for response in client.read_many(["GET"] * 2)] == [b"first", b"slow"]


def test_without_threads_others_are_served_meanwhile(application: Waiting) -> None:
    """Also if the application yields empty blocks as fast as it can."""
    application.pause = 0.0
    with Running(application, in_loop=True) as running:
        client = running.client()
        ask(client, application)
        with running.client() as other:
            for _ in range(20):
                assert other.get("/other").body == b"/other"
        client.close()
        assert application.closed.acquire(timeout=SECONDS)


def test_a_streamed_body_that_breaks_off_ends_it_too() -> None:
    entered, closed = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        entered.set()
        try:
            while not closed.wait(0.005):
                yield b""
        finally:
            closed.set()

    with Running(application, stream_body=True, header_timeout=2) as running, running.client() as client:
        client.send(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert entered.wait(SECONDS)
        client.send(b"rubbish\r\n")
        assert client.read().status == 400
        assert closed.wait(SECONDS)


def test_a_client_that_waits_is_not_reset_and_is_probed(application: Waiting, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that has vanished sends nothing: only the probes of the system find it."""
    probed: list[tuple[int, int]] = []
    real = disconnection.send_keepalives

    def send_keepalives(fd: int) -> None:
        real(fd)
        with socket.socket(fileno=socket.dup(fd)) as sock:
            idle = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) if hasattr(socket, "TCP_KEEPIDLE") else 60
            probed.append((sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE), idle))

    monkeypatch.setattr(disconnection, "send_keepalives", send_keepalives)
    with Running(application) as running, running.client() as client:
        ask(client, application)
        assert wait_until(lambda: len(probed) > 3, SECONDS)
        assert set(probed) == {(1, socketstate_module._PROBES["TCP_KEEPIDLE"])}
        application.release.set()
        assert client.read().body == b"done"


def test_a_response_that_is_complete_does_not_hold_its_thread_for_ever(options: dict[str, Any]) -> None:
    """The application yields more empty blocks after the last byte of its Content-Length."""
    closed = threading.Semaphore(0)

    def application(environ: dict[str, Any], start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "4")])
        try:
            yield b"done"
            while True:
                threading.Event().wait(0.005)
                yield b""
        finally:
            closed.release()

    with Running(application, **options) as running, running.client() as client:
        client.send(encode_request("GET", "/"))
        assert client.read().body == b"done"
        client.close()
        assert closed.acquire(timeout=SECONDS)
