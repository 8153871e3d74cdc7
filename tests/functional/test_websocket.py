"""The connection itself for an application that switches protocols: `gunicorn.socket`, as WebSocket libraries take it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import websocket

from tests.functional.harness import Server, wait_until
from tests.functional.wire import Client

UPGRADE = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: upper\r\n\r\n"


@pytest.fixture(scope="module")
def chat() -> Iterator[Server]:
    with Server("tests.functional.websockets:app", "--workers", "1", "--threads", "3", "--access-log", "-") as server:
        yield server


@pytest.fixture(scope="module")
def raw() -> Iterator[Server]:
    with Server("tests.functional.websockets:raw", "--workers", "1") as server:
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


def test_a_stop_waits_for_an_open_websocket_no_longer_than_graceful_timeout() -> None:
    with Server("tests.functional.websockets:raw", "--workers", "1", "--graceful-timeout", "1") as server:
        client = Client(server.address)
        client.send(UPGRADE % b"/")
        assert client.read_head().status == 101
        server.signal(signal.SIGQUIT)
        assert server.wait(5.0) in (0, 1)
        client.close()
