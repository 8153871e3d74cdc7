"""A worker's memory for unread responses is limited, however many clients read nothing (`--response-memory`)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.functional.support.applications import digest, pattern
from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import Server
from tests.functional.support.vitals import peak_memory
from tests.functional.support.wire import Client, encode_request

MEBIBYTE = 1 << 20
CLIENTS = 30
SIZE = 8_000_000
RECEIVE_BYTES = 65_536
WHOLE = digest(pattern(SIZE))
# Each response is made anew, and of a block that was yielded nothing is kept.
MAKING = """
from tests.functional.support.applications import pattern

def app(environ, start_response):
    halves = (pattern(8_000_000)[at : at + 4_000_000] for at in range(0, 8_000_000, 4_000_000))
    start_response("200 OK", [])
    return [b"".join(halves)] if environ["PATH_INFO"] == "/whole" else halves
"""
BUDGET = 8 * MEBIBYTE
# Beside it: what the threads make at the moment, what the allocator keeps of that, and what a connection is made of.
# On TLS a client costs what is being encrypted, too.
MOST_BESIDE = 52 * MEBIBYTE


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return Pair(directory, "localhost")


@pytest.fixture(params=["whole", "stream", "inline", "tls", "inline-tls"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def readers(stack: ExitStack, server: Server, pair: Pair | None, target: str, count: int) -> Iterator[Client]:
    """Clients that have read the head of their response."""
    for _ in range(count):
        if pair is not None:
            client: Client = stack.enter_context(TlsClient(server.port, pair, receive_bytes=RECEIVE_BYTES))
        else:
            client = stack.enter_context(server.client(60))
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
        client.send(encode_request("GET", target))
        assert client.read_head().status == 200
        yield client


def test_clients_that_read_nothing_take_no_more_than_the_budget(
    kind: str, server_env: dict[str, str], pair: Pair, tmp_path: Path
) -> None:
    inline, secure = "inline" in kind, "tls" in kind
    target = "/whole" if kind in ("whole", "tls") else "/stream"
    (tmp_path / "making.py").write_text(MAKING)
    arguments = [
        "--workers",
        "1",
        "--threads",
        "0" if inline else "2",
        "--response-buffer",
        # On TLS nothing of a whole response leaves before it is kept: a smaller buffer alone would send it to a file.
        "9M" if kind == "tls" else "4M",
        "--response-memory",
        f"{BUDGET}",
        "--min-send-rate",
        "0",
        "-I",
        str(tmp_path),
    ]
    arguments += pair.arguments if secure else ()
    env = {**server_env, "TMPDIR": str(tmp_path)}
    listen = "127.0.0.1:0:ssl" if secure else "127.0.0.1:0"
    with Server("making:app", *arguments, listen=listen, env=env) as server, ExitStack() as stack:
        (worker,) = server.worker_pids()
        for client in readers(stack, server, pair if secure else None, target, 2):
            _read(client, target)
        peak_before = peak_memory(worker)
        clients = list(readers(stack, server, pair if secure else None, target, CLIENTS))
        # Each gets its response, and the memory is there for others.
        with ThreadPoolExecutor(8) as pool:
            assert set(pool.map(lambda client: digest(_read(client, target)), clients)) == {WHOLE}
        for client in readers(stack, server, pair if secure else None, target, 3):
            assert digest(_read(client, target)) == WHOLE
        grown = peak_memory(worker) - peak_before
        print(f"\n{kind}: {grown / MEBIBYTE:.1f} MiB for {CLIENTS} responses of {SIZE} bytes that are not read")
        assert grown < BUDGET + MOST_BESIDE
        assert "ERROR" not in server.log


def _read(client: Client, target: str) -> bytes:
    return client._read_exactly(SIZE) if target.startswith("/whole") else client._read_chunks()
