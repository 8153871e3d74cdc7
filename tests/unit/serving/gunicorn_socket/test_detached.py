"""starman.serving.gunicorn_socket, in a real Service: connections that the application takes."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import socket
import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from starman.serving.gunicorn_socket import relay as relay_module
from starman.serving.gunicorn_socket.detached import DetachedConnection
from tests.functional.support.harness import wait_until
from tests.unit.serving.running import SECONDS, Running, reset

pytestmark = pytest.mark.usefixtures("fast")

Start = Callable[..., Any]
Capture = pytest.CaptureFixture[str]

UPGRADE = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: upper\r\n\r\n"
BIG = os.urandom(1 << 20) * 4


@pytest.fixture(params=[b"", b"early"], ids=["direct", "relayed"])
def early(request: pytest.FixtureRequest) -> bytes:
    """Return what the client sends together with its handshake."""
    return bytes(request.param)


def upper(environ: dict[str, Any], start_response: Start) -> list[bytes]:
    """Answers in upper case, until the client ends its stream."""
    offered = environ.get("gunicorn.socket")
    if offered is None:
        start_response("200 OK", [])
        return [b"a page"]
    while received := offered.recv(100_000):
        offered.sendall(received.upper())
    return []


def test_both_directions_at_once_and_the_ends_of_both(options: dict[str, Any], early: bytes) -> None:
    with Running(upper, **options) as running, running.client() as client:
        client.send(UPGRADE % b"/" + early)
        data = b"x" * 3_000_000

        def send() -> None:
            client.send(data)
            client.socket.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        assert client.read_to_end() == (early + data).upper()
        sender.join(SECONDS)
        assert running.client().get("/").body == b"a page"
        assert wait_until(lambda: not running.ended)


def test_an_end_that_came_with_the_handshake(options: dict[str, Any], early: bytes) -> None:
    with Running(upper, **options) as running, running.client() as client:
        client.send(UPGRADE % b"/" + early)
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_to_end() == early.upper()


def test_a_half_close_by_the_application(options: dict[str, Any], early: bytes) -> None:
    """The application still reads after it has ended its own stream."""
    received: list[bytes] = []

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        offered = environ["gunicorn.socket"]
        offered.sendall(b"hello")
        offered.shutdown(socket.SHUT_WR)
        with offered.makefile("rb") as file:
            received.append(file.read())
        return []

    with Running(application, **options) as running, running.client() as client:
        client.send(UPGRADE % b"/" + early)
        assert client.read_to_end() == b"hello"
        client.send(b" and more")
        client.socket.shutdown(socket.SHUT_WR)
        assert wait_until(lambda: received == [early + b" and more"])


@pytest.mark.parametrize("closes", [False, True], ids=["returns", "closes"])
def test_what_was_sent_last_arrives_whatever_the_client_sends(options: dict[str, Any], early: bytes, closes: bool) -> None:
    """The application reads nothing of what the client sends."""

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        offered = environ["gunicorn.socket"]
        offered.sendall(BIG)
        if closes:
            offered.close()
        return []

    with Running(application, **options) as running, running.client(receive_bytes=65_536) as client:
        client.send(UPGRADE % b"/" + early + b"x" * 100_000)
        received = bytearray()
        while data := client.socket.recv(50_000):
            received += data
            client.socket.send(b"x" * 100)
        assert received == BIG


def test_a_client_that_is_gone(options: dict[str, Any], early: bytes) -> None:
    """The application notices it when it reads, or at its next attempt to send."""
    entered, ended = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        offered = environ["gunicorn.socket"]
        offered.sendall(b"hello")
        entered.set()
        with contextlib.suppress(OSError):
            while offered.recv(1000):
                pass
        ended.set()
        return []

    with Running(application, **options) as running:
        client = running.client()
        client.send(UPGRADE % b"/" + early)
        assert entered.wait(SECONDS)
        reset(client)
        assert ended.wait(SECONDS)


@pytest.mark.parametrize("reads", [False, True])
def test_a_client_that_does_not_stop_is_read_no_faster_than_the_application_reads(options: dict[str, Any], reads: bool) -> None:
    """With and without a relay: bytes that are not read stay in the client."""
    done = threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        offered = environ["gunicorn.socket"]
        assert offered.recv(5) == b"early"
        if not reads:
            assert done.wait(SECONDS)
        while offered.recv(100_000):
            pass
        return []

    with Running(application, **options) as running, running.client() as client:
        client.send(UPGRADE % b"/" + b"early")
        client.socket.settimeout(SECONDS if reads else 0.5)  # a loaded machine may pause for longer than 0.5 s
        sent = 0
        with contextlib.suppress(TimeoutError):
            while sent < 50_000_000:
                sent += client.socket.send(bytes(1 << 20))
        done.set()
        assert (sent >= 50_000_000) is reads


# What the application's thread posts while the loop closes is dropped, and Python closes the sockets with a warning.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_the_end_of_the_service_resets(options: dict[str, Any], early: bytes) -> None:
    """Also with a relay and an application that waits."""
    entered, ended = threading.Event(), threading.Event()

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        offered = environ["gunicorn.socket"]
        offered.settimeout(1.0)
        offered.fileno()  # takes the connection; the test is not about an end before that
        entered.set()
        with contextlib.suppress(OSError):
            while offered.recv(1000):
                pass
        ended.set()
        return []

    with Running(application, graceful_timeout=0.2, **options) as running, running.client() as client:
        client.send(UPGRADE % b"/" + early)
        assert entered.wait(SECONDS)
        running.drain()
        running.join()
        assert ended.wait(SECONDS)
        with contextlib.suppress(ConnectionError):
            assert client.socket.recv(1) == b""


def test_no_descriptor_for_a_relay(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    def none_is_left() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(relay_module, "socket", SimpleNamespace(socketpair=none_is_left))
    with Running(upper, **options) as running, running.client() as client:
        client.send(UPGRADE % b"/" + b"early")
        with contextlib.suppress(ConnectionError):
            assert client.socket.recv(1) == b""
        assert running.client().get("/").body == b"a page"
    assert "a connection is dropped: [Errno 24]" in capfd.readouterr().err


def test_a_connection_is_taken_by_one_of_two_threads(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[DetachedConnection] = []
    make = DetachedConnection.__init__

    def note(self: DetachedConnection, *arguments: Any) -> None:
        taken.append(self)
        make(self, *arguments)

    monkeypatch.setattr(DetachedConnection, "__init__", note)

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        offered = environ["gunicorn.socket"]
        threads = [threading.Thread(target=offered.sendall, args=(b"x",)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        return []

    with Running(application, **options) as running, running.client() as client:
        client.send(UPGRADE % b"/")
        assert client.read_to_end() == b"xxxx"
    assert len(taken) == 1


def test_it_cannot_be_taken_behind_its_request(options: dict[str, Any]) -> None:
    kept: list[Any] = []

    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        kept.append(environ["gunicorn.socket"])
        start_response("200 OK", [])
        return [b"an answer"]

    with Running(application, **options) as running, running.client() as client:
        client.send(UPGRADE % b"/")
        assert client.read().body == b"an answer"
        (offered,) = kept
        assert wait_until(lambda: offered._released)  # the client may know before the application has returned
        for use in (offered.fileno, offered.close, offered.getpeername, lambda: offered.send(b"x"), lambda: offered.family):
            with pytest.raises(ConnectionAbortedError):
                use()
        client.send(UPGRADE % b"/")
        assert client.read().body == b"an answer"


def test_nothing_of_it_waits_for_the_garbage_collector(options: dict[str, Any], early: bytes) -> None:
    gc.collect()
    gc.disable()
    try:
        with Running(upper, **options) as running:
            for _ in range(3):
                with running.client() as client:
                    client.send(UPGRADE % b"/" + early)
                    client.socket.shutdown(socket.SHUT_WR)
                    assert client.read_to_end() == early.upper()
            assert wait_until(lambda: not [each for each in gc.get_objects() if isinstance(each, DetachedConnection)])
    finally:
        gc.enable()
