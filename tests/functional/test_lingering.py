"""The last response of a connection arrives, however slowly it is read and whatever the client still sends (RFC 9112
§9.6)."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.endings import LARGE, SIZE
from tests.functional.support.harness import Server
from tests.functional.support.wire import Client, encode_request

# Longer than a connection lingers, and the tick that ends it comes.
READ_SECONDS = 3.5
RECEIVE_BYTES = 32_768


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("certificate"), "localhost")


@pytest.fixture(scope="module", params=["4", "0"], ids=["threads", "inline"])
def server(request: pytest.FixtureRequest, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One worker, with a plain and a TLS listener."""
    large = tmp_path_factory.mktemp("file") / "large"
    large.write_bytes(LARGE)
    arguments = ["--workers", "1", "--threads", request.param, *pair.arguments]
    if request.param != "0":
        arguments += ["--stream-body-path", "/stream"]
    listen = ("127.0.0.1:0", "127.0.0.1:0:ssl")
    env = {"TEST_LARGE": str(large)}
    with Server("tests.functional.support.endings:app", *arguments, listen=listen, env=env) as running:
        yield running


def connect(server: Server, pair: Pair, *, secure: bool, receive_bytes: int = RECEIVE_BYTES) -> Client:
    if secure:
        return TlsClient(server.ports[1], pair, receive_bytes=receive_bytes)
    client = Client(("127.0.0.1", server.ports[0]))
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    return client


def read_slowly(client: Client, junk: bytes) -> bytes:
    """Read all data up to the server's FIN, at an even speed, while the client goes on sending. Raises at a reset."""
    began = time.monotonic()
    received = bytearray()
    pace = threading.Event()
    while data := client.socket.recv(65_536):
        received += data
        client.send(junk)
        pace.wait(began + READ_SECONDS * len(received) / SIZE - time.monotonic())
    return bytes(received)


REQUESTS = {
    "close": encode_request("GET", "/list", [("Connection", "close")]),
    "1.0": b"GET /list HTTP/1.0\r\n\r\n",
    "stream": encode_request("GET", "/stream", [("Connection", "close")]),
    "file": encode_request("GET", "/file", [("Connection", "close")]),
    # Its body is large and still on its way when it is answered.
    "early": encode_request("POST", "/stream", [("Content-Length", "1000000000")]),
    # Another request behind the last one.
    "pipelined": encode_request("GET", "/list", [("Connection", "close")]) + encode_request("GET", "/small"),
    # It is refused, behind a response that is on its way.
    "refused": encode_request("GET", "/list") + b"BAD\r\n\r\n",
}


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_slow_reader_that_still_sends_gets_its_last_response_whole(server: Server, pair: Pair, secure: bool) -> None:
    def visit(name: str) -> bytes:
        with connect(server, pair, secure=secure) as client:
            client.send(REQUESTS[name])
            received = read_slowly(client, b"x")
            client._buffer[:] = received
            body = client.read().body
            if name == "refused":
                assert client.read().status == 400
            assert not client._buffer
            return body

    # Without threads all bodies are gathered before there is an answer.
    names = [name for name in REQUESTS if server.threads or name != "early"]
    with ThreadPoolExecutor(len(names)) as pool:
        whole = [body == LARGE for body in pool.map(visit, names)]
    assert dict(zip(names, whole, strict=True)) == dict.fromkeys(names, True)


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
def test_a_drain_waits_for_a_slow_reader_whose_connection_is_idle(pair: Pair, secure: bool) -> None:
    """The kernel has taken all of the response: for the server nothing is in flight any more."""
    arguments = ("--workers", "1", *pair.arguments)
    with Server("tests.functional.support.endings:app", *arguments, listen=("127.0.0.1:0", "127.0.0.1:0:ssl")) as server:
        with connect(server, pair, secure=secure) as client:
            client.send(encode_request("GET", "/list"))
            assert client.read_head().status == 200
            server.signal(signal.SIGQUIT)
            received = len(client._buffer)
            began, pace = time.monotonic(), threading.Event()
            while data := client.socket.recv(65_536):
                received += len(data)
                if time.monotonic() - began > READ_SECONDS / 2:
                    client.send(b"x")  # to a closed connection: the kernel answers that with a reset
                pace.wait(began + READ_SECONDS * received / SIZE - time.monotonic())
            assert received == SIZE
        assert server.wait() == 0
        assert "are reset" not in server.log


@pytest.mark.parametrize("listener", [0, 1], ids=["plain", "tls"])
def test_a_client_that_is_refused_is_not_read_at_full_speed(server: Server, listener: int) -> None:
    """It has its answer all the same. What the kernels of both sides buffer comes on top of what is read and dropped.
    A TLS port refuses a client that speaks plainly."""
    with Client(("127.0.0.1", server.ports[listener])) as client:
        client.send(b"BAD\r\n\r\n")
        assert client.read().status == 400
        sent, flood = 0, bytes(1 << 20)
        with contextlib.suppress(ConnectionError):
            while True:
                sent += client.socket.send(flood)
        assert 1_000_000 < sent < 40_000_000
