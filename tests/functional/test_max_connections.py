"""Clients that connect and are silent keep no other client out, and leave the application its descriptors
(`--max-connections`)."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import Client, encode_request

# Opens files, and waits for one of the directory in `gate` where it is asked to.
APPLICATION = """
import os, resource, time
resource.setrlimit(resource.RLIMIT_NOFILE, (256, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))

held = [open(os.devnull) for _ in range(int(os.environ.get("HELD", "0")))]

def app(environ, start_response):
    if environ["PATH_INFO"] == "/wait":
        with open(os.environ["GATE"] + ".entered", "a") as entered:
            entered.write("x")
        while not os.path.exists(os.environ["GATE"]):
            time.sleep(0.01)
    files = [open(os.devnull) for _ in range(30)]
    for file in files:
        file.close()
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]
"""
SILENT = 400


@pytest.fixture
def serve(tmp_path: Path) -> Callable[..., Server]:
    (tmp_path / "limited.py").write_text(APPLICATION)

    def start(*arguments: str, listen: str = "127.0.0.1:0", held: int = 0) -> Server:
        env = {"GATE": str(tmp_path / "gate"), "HELD": str(held)}
        return Server("limited:app", "--workers", "1", "-I", str(tmp_path), *arguments, listen=listen, env=env)

    return start


def is_open(client: Client) -> bool:
    """Whether the server keeps a connection open on which it has sent nothing."""
    client.socket.setblocking(False)
    try:
        return client.socket.recv(1, 2) != b""  # MSG_PEEK
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
    finally:
        client.socket.settimeout(20.0)


@pytest.mark.parametrize("sent", [b"", b"G"], ids=["silent", "a part of a head"])
def test_silent_clients_keep_no_other_out(sent: bytes, serve: Callable[..., Server]) -> None:
    """Of 256 descriptors a quarter is for the application."""
    with serve() as server, ExitStack() as stack:
        silent = []
        for _ in range(SILENT):
            client = stack.enter_context(server.client())
            silent.append(client)
            with contextlib.suppress(ConnectionError):
                client.send(sent)
        for _ in range(20):
            with server.client() as client:
                assert client.get("/").body == b"hello"
                assert client.get("/").body == b"hello"
        if not sent:  # those that came first have gone first
            states = [is_open(client) for client in silent]
            assert states == sorted(states)
            assert 100 < sum(states) < 200
        server.wait_for("ERROR. idle connections are closed to make room for new ones: [0-9]+ are open")
        assert server.log.count("Too many open files") == 0
        assert "Traceback" not in server.log


def test_an_application_that_holds_most_descriptors_is_served_still(serve: Callable[..., Server]) -> None:
    """All but the reserve are in use before the first connection: a few connections may take some of the reserve."""
    with serve(held=180) as server, ExitStack() as stack:
        for _ in range(5):
            kept = stack.enter_context(server.client())
            assert kept.get("/").body == b"hello"
        for _ in range(20):
            with server.client() as client:
                assert client.get("/").body == b"hello"
        assert kept.get("/").body == b"hello"
        server.wait_for("ERROR. the application uses so many descriptors that at most 16 connections are accepted")


def test_the_longest_idle_goes_first_and_a_busy_one_never(serve: Callable[..., Server], tmp_path: Path) -> None:
    entered = tmp_path / "gate.entered"
    with serve("--max-connections", "4", "--threads", "4") as server, ExitStack() as stack:
        busy = [stack.enter_context(server.client()) for _ in range(2)]
        for client in busy:
            client.send(encode_request("GET", "/wait"))
        assert wait_until(lambda: entered.exists() and entered.stat().st_size == 2)
        first, second = (stack.enter_context(server.client()) for _ in range(2))
        for client in (second, first, second):
            assert client.get("/").body == b"hello"
        assert is_open(first)
        # Its keep-alive ends for the next one, since `second` was served later.
        third = stack.enter_context(server.client())
        assert third.get("/").body == b"hello"
        assert wait_until(lambda: not is_open(first))
        assert is_open(second)
        assert second.get("/").body == b"hello"
        # When all are busy, a further one waits in the kernel until one has its answer.
        for client in (second, third):
            client.send(encode_request("GET", "/wait"))
        assert wait_until(lambda: entered.stat().st_size == 4)
        late = stack.enter_context(server.client())
        late.send(encode_request("GET", "/"))
        server.wait_for("no connection is accepted for now, because none is idle that could be closed: 4 are open")
        assert is_open(late)
        (tmp_path / "gate").touch()
        assert late.read().body == b"hello"
        for client in (*busy, second, third):
            assert client.read().body == b"hello"


def test_half_done_handshakes_go_first(serve: Callable[..., Server], tmp_path: Path) -> None:
    pair = Pair(tmp_path, "localhost")
    arguments = ["--max-connections", "4", *pair.arguments, "--ssl-handshake-timeout", "60"]
    with serve(*arguments, listen="127.0.0.1:0:ssl") as server, ExitStack() as stack:
        idle = stack.enter_context(TlsClient(server.port, pair))
        assert idle.get("/").body == b"hello"
        silent = [stack.enter_context(server.client()) for _ in range(3)]
        silent[1].send(b"\x16\x03\x01")
        begun = time.monotonic()
        assert wait_until(lambda: time.monotonic() - begun > 0.7)  # a new handshake is given half a second
        for _ in range(3):
            with TlsClient(server.port, pair) as client:
                assert client.get("/").body == b"hello"
        assert wait_until(lambda: not is_open(silent[0]))
        assert idle.get("/").body == b"hello"
