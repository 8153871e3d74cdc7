"""Requests for new TLS keys (RFC 8446 §4.6.3): a client that reads no answer to them is reset, and none of the
answers is kept."""

from __future__ import annotations

import re
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import Server
from tests.functional.support.key_updates import KeyUpdater
from tests.functional.support.vitals import private_bytes
from tests.functional.support.wire import encode_request

# An answer has 27 bytes, so this many are 27 MB: a server that kept them all would be cut neither by us nor by the
# kernel.
FLOOD = 1_000_000
MOST_GROWTH = 8 * 1024 * 1024


@pytest.fixture(autouse=True)
def quiet_pipes() -> Iterator[None]:
    """libssl writes without MSG_NOSIGNAL; Python ignores the signal, unless the application has changed that."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGPIPE, before)


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return Pair(directory, "localhost")


@pytest.fixture(scope="module")
def server(server_env: dict[str, str], pair: Pair) -> Iterator[Server]:
    """One worker with one thread, and connections with small buffers in the kernel."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        descriptor = listener.fileno()
        arguments = ["--workers", "1", "--threads", "1", "--enable-ssl", *pair.arguments]
        application = "tests.functional.support.applications:app"
        with Server(application, *arguments, listen=f"fd://{descriptor}", env=server_env, pass_fds=(descriptor,)) as running:
            yield running


def connect(server: Server, receive_bytes: int) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.connect(("127.0.0.1", server.port))
    return sock


def test_a_flood_of_key_updates_is_cut_and_others_are_served(server: Server, pair: Pair) -> None:
    (worker,) = server.worker_pids()
    with TlsClient(server.port, pair) as other, connect(server, 4096) as sock:
        assert other.get("/hello").body == b"hello\n"
        before = private_bytes(worker)
        flooder = KeyUpdater(sock)
        sent = 0
        while sent < FLOOD and flooder.update():
            sent += 1
            if sent % 1000 == 0:
                assert other.get("/hello").body == b"hello\n"
        flooder.free()
        assert sent < FLOOD
        assert other.get("/hello").body == b"hello\n"
    assert private_bytes(worker) - before < MOST_GROWTH
    server.wait_for(r"\[INFO\] TLS with 127\.0\.0\.1 broke: the client requests key updates and does not read the answers")
    assert not re.search("Traceback|ERROR", server.log)


def test_a_client_that_reads_its_answers_may_have_new_keys(server: Server) -> None:
    """As many as are on their way at once here: the kernel keeps the answers until they are read."""
    with connect(server, 1 << 20) as sock:
        updater = KeyUpdater(sock)
        for _ in range(3):
            for _ in range(100):
                assert updater.update()
            assert updater.write(encode_request("GET", "/hello"))
            received = updater.read()
            assert received.startswith(b"HTTP/1.1 200 OK\r\n")
            assert received.endswith(b"hello\n")
        updater.free()
