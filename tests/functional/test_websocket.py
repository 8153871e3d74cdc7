"""The raw connection for applications that switch protocols: `gunicorn.socket`, as WebSocket libraries use it."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import websocket

from tests.functional.conftest import Events
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.websockets import LARGE, WAYS
from tests.functional.support.wire import Client, encode_request

UPGRADE = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: upper\r\n\r\n"


@pytest.fixture(scope="module")
def chat() -> Iterator[Server]:
    with Server("tests.functional.support.websockets:app", "--workers", "1", "--threads", "3", "--access-log", "-") as server:
        yield server


@pytest.fixture(scope="module")
def raw() -> Iterator[Server]:
    with Server("tests.functional.support.websockets:raw", "--workers", "1") as server:
        yield server


@contextmanager
def connect(server: Server, path: str) -> Iterator[websocket.WebSocket]:
    ws = websocket.create_connection(f"ws://127.0.0.1:{server.port}{path}", timeout=10)
    try:
        yield ws
    finally:
        if ws.sock is not None:
            ws.sock.close()


def test_flask_sock_echoes_and_closes_in_order(chat: Server) -> None:
    for size in (0, 1, 125, 126, 70_000, 1_000_000):
        with connect(chat, "/echo") as ws:
            ws.send("x" * size)
            assert ws.recv() == "x" * size
            ws.send("end")
            assert ws.recv() == ""
    assert "failed" not in chat.log


def test_a_websocket_beside_pages(chat: Server) -> None:
    with connect(chat, "/echo") as ws, chat.client() as client:
        assert client.get("/").body == b"a page"
        assert client.get("/").body == b"a page"
        ws.send("still here")
        assert ws.recv() == "still here"


def test_a_broken_handler_is_logged_and_its_connection_ends(chat: Server) -> None:
    with connect(chat, "/broken") as ws, pytest.raises(websocket.WebSocketConnectionClosedException):
        ws.recv()
    chat.wait_for("ValueError: the handler is broken")


def test_a_client_that_vanishes_frees_its_thread(chat: Server) -> None:
    for _ in range(6):  # more than there are threads
        with connect(chat, "/echo") as ws:
            ws.send("x")
            assert ws.recv() == "x"
    with chat.client() as client:
        assert client.get("/").body == b"a page"


def test_hazard_03_a_raw_socket_is_blocking_for_the_application_only(raw: Server) -> None:
    with raw.client() as switched, raw.client() as other:
        switched.send(UPGRADE % b"/")
        assert switched.read_head().status == 101
        # The application now waits in recv: a blocking socket that the loop still had would stop the whole worker.
        for _ in range(3):
            assert other.get("/").body == b"not offered"
        switched.send(b"hello\n\n")
        assert switched.read_to_end() == b"HELLO\n\n"


def test_what_was_received_behind_the_request_is_the_applications(raw: Server) -> None:
    with raw.client() as client:
        client.send(UPGRADE % b"/" + b"GET / looks like a request\n\n")
        assert client.read_head().status == 101
        assert client.read_to_end() == b"GET / LOOKS LIKE A REQUEST\n\n"


def test_a_request_that_offers_an_upgrade_may_be_answered_as_any_other(raw: Server) -> None:
    with raw.client() as client:
        client.send(UPGRADE % b"/ignored" * 3)
        for _ in range(3):
            response = client.read()
            assert (response.status, response.body) == (200, b"offered")
            assert response.get("upgrade") is None
        assert client.get("/").body == b"not offered"


@pytest.mark.parametrize("size", [0, 70_000])
def test_an_upgrade_with_a_body_is_a_plain_request(raw: Server, size: int) -> None:
    fields = (("Connection", "Upgrade, HTTP2-Settings"), ("Upgrade", "h2c"), ("HTTP2-Settings", ""))
    with raw.client() as client:
        assert client.request("POST", "/ignored", fields, b"x" * size).status == 200
        assert client.get("/").body == b"not offered"


def test_no_descriptor_is_left_behind(raw: Server) -> None:
    (pid,) = raw.worker_pids()

    def descriptors() -> int:
        return len(os.listdir(f"/proc/{pid}/fd"))

    def switch_and_leave() -> None:
        with raw.client() as client:
            client.send(UPGRADE % b"/")
            assert client.read_head().status == 101

    switch_and_leave()  # with the first connection of a loop libuv opens /dev/null, for good; this may be the first test
    before = descriptors()
    for _ in range(10):
        switch_and_leave()
    assert wait_until(lambda: descriptors() <= before)


# What takes the connection


def test_looking_at_the_socket_takes_nothing() -> None:
    with Server("tests.functional.support.websockets:touched", "--workers", "1") as server, server.client() as client:
        for _ in range(2):
            client.send(UPGRADE % b"/")
            assert client.read().body == b"looked at"
        assert "is dropped" not in server.log


def test_a_response_behind_a_taken_connection_is_dropped_and_logged() -> None:
    with (
        Server("tests.functional.support.websockets:taken", "--workers", "1", "--access-log", "-") as server,
        server.client() as client,
    ):
        client.send(UPGRADE % b"/mistake?a=b")
        assert client.read_to_end() == b""
        server.wait_for(r"WARNING\] a response is dropped: .*gunicorn\.socket.*: GET /mistake\?a=b\n")
        server.wait_for(r'"GET /mistake\?a=b HTTP/1\.1" 101 ')


def test_a_taken_socket_is_kept_alive() -> None:
    with Server("tests.functional.support.websockets:keepalive", "--workers", "1") as server, server.client() as client:
        client.send(UPGRADE % b"/")
        assert client.read_head().status == 101
        assert client.read_to_end() == b"1"


# What was received behind the request


@pytest.fixture(scope="module")
def ways() -> Iterator[Server]:
    with Server("tests.functional.support.websockets:ways", "--workers", "1", "--threads", "2") as server:
        yield server


WITH_BODY = b"POST /%s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: upper\r\n"
BODIES = {
    "length": WITH_BODY + b"Content-Length: 5\r\n\r\nbody ",
    "chunked": WITH_BODY + b"Transfer-Encoding: chunked\r\n\r\n5\r\nbody \r\n0\r\n\r\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_what_came_with_the_handshake_is_seen_in_every_way(ways: Server, way: str) -> None:
    with ways.client() as client:
        client.send(UPGRADE % b"/%s" % way.encode() + b"early\n")
        assert client.read_head().status == 101
        assert client._read_exactly(6) == b"EARLY\n"
        for size in (1, 3_000_000):  # behind it, both directions at once
            threading.Thread(target=client.send, args=(b"x" * size,), daemon=True).start()
            assert client._read_exactly(size) == b"X" * size
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_to_end() == b""


@pytest.mark.parametrize("head", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("pieces", [1, 2])
def test_what_is_behind_a_body_is_the_applications(ways: Server, head: bytes, pieces: int) -> None:
    with ways.client() as client:
        whole = head % b"by_recvmsg" + b"GET / looks like a request\r\n\r\n"
        client.send(whole[: len(whole) // pieces])
        client.send(whole[len(whole) // pieces :])
        assert client.read_head().status == 101
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_to_end() == b"BODY GET / LOOKS LIKE A REQUEST\r\n\r\n"


def test_a_client_that_has_ended_already(ways: Server) -> None:
    with ways.client() as client:
        client.send(UPGRADE % b"/by_file" + b"early\n")
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_head().status == 101
        assert client.read_to_end() == b"EARLY\n"


# How a taken connection ends


def read_slowly(client: Client, frame: bytes) -> int:
    """How many bytes come up to the server's end, while the client goes on sending. Raises when it is reset."""
    received = len(client._buffer)
    began, pace = time.monotonic(), threading.Event()
    while data := client.socket.recv(65_536):
        received += len(data)
        client.send(frame)
        pace.wait(began + 3.5 * received / len(LARGE) - time.monotonic())
    return received


@contextmanager
def slow_client(server: Server, path: bytes, early: bytes = b"") -> Iterator[Client]:
    with server.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        client.send(UPGRADE % path + early)
        assert client.read_head().status == 101
        yield client


@pytest.fixture
def pushes(server_env: dict[str, str]) -> Iterator[Server]:
    with Server("tests.functional.support.websockets:pushes", "--workers", "1", "--threads", "3", env=server_env) as server:
        yield server


# A text frame of one byte, masked by zeros.
FRAME = b"\x81\x81\0\0\0\0x"


def test_what_was_sent_last_arrives_though_the_client_still_sends(chat: Server) -> None:
    """RFC 6455 §7.1.1. flask-sock sends two megabytes, and a Close frame behind them, and returns."""
    handshake = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Version", "13")]
    with chat.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32_768)
        client.send(encode_request("GET", "/push", [*handshake, ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]))
        assert client.read_head().status == 101
        assert read_slowly(client, FRAME) == 10 + len(LARGE) + 4  # a frame's long header, and the frame of the close


@pytest.mark.parametrize("early", [b"", b"early"], ids=["direct", "relayed"])
def test_an_application_that_just_returns(pushes: Server, early: bytes) -> None:
    with slow_client(pushes, b"/", early) as client:
        assert read_slowly(client, b"x") == len(LARGE)


@pytest.mark.parametrize("early", [b"", b"early"], ids=["direct", "relayed"])
def test_an_application_that_closes_its_socket_ends_the_connection_at_once(pushes: Server, early: bytes) -> None:
    with slow_client(pushes, b"/close", early) as client:
        assert read_slowly(client, b"x") == len(LARGE)
        with pushes.client() as other:  # only now the application returns
            assert other.get("/return").body == b"it may"


def test_what_still_reads_in_another_thread_is_woken(pushes: Server, events: Events) -> None:
    with slow_client(pushes, b"/thread") as client:
        assert client._read_exactly(len(LARGE)) == LARGE
        events.wait_for("no more to read")
        assert client.at_end()


@pytest.mark.parametrize("early", [b"", b"early"], ids=["direct", "relayed"])
def test_a_client_that_takes_nothing_is_cut(server_env: dict[str, str], early: bytes) -> None:
    arguments = ("--workers", "1", "--threads", "2", "--write-timeout", "1")
    with Server("tests.functional.support.websockets:pushes", *arguments, env=server_env) as server:
        (pid,) = server.worker_pids()

        def descriptors() -> int:
            return len(os.listdir(f"/proc/{pid}/fd"))

        with server.client() as other:
            assert other.get("/return").body == b"it may"
            before = descriptors()
            with slow_client(server, b"/some", early):
                assert wait_until(lambda: descriptors() > before)
                assert wait_until(lambda: descriptors() <= before, 20)


@pytest.mark.parametrize("early", [b"", b"early"], ids=["direct", "relayed"])
@pytest.mark.parametrize("way", [b"dup", b"detach", b"number"])
def test_an_application_with_other_descriptors_of_its_connection(way: bytes, early: bytes) -> None:
    """It may go on with them after close(), and whatever it has closed, the connection ends and keeps no stop
    waiting."""
    with Server("tests.functional.support.websockets:copies", "--workers", "1", "--graceful-timeout", "20") as server:
        with server.client() as client:
            client.send(UPGRADE % (b"/" + way) + early)
            assert client.read_head().status == 101
            assert client.read_to_end() == b"copy"
        assert server.stop() == 0
    assert "the event loop reports" not in server.log
    assert "graceful_timeout is over" not in server.log


def test_a_stop_waits_for_an_open_websocket_no_longer_than_graceful_timeout() -> None:
    with Server("tests.functional.support.websockets:raw", "--workers", "1", "--graceful-timeout", "1") as server:
        client = Client(server.address)
        client.send(UPGRADE % b"/")
        assert client.read_head().status == 101
        server.signal(signal.SIGQUIT)
        assert server.wait(20) in (0, 1)
        client.close()
