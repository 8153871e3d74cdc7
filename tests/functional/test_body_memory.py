"""A worker's memory for request bodies is limited, however many clients send large ones slowly (`--body-memory`)."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable

from tests.functional.support.applications import pattern
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.vitals import peak_memory, private_bytes
from tests.functional.support.wire import Client, encode_chunks, encode_request

MEBIBYTE = 1 << 20
CLIENTS = 120
BODY = pattern(900_000)
PIECE = 60_000
BUDGET = 8 * MEBIBYTE
# Beside it: for each client three of its pieces that were not parsed yet, what every body may have, and what a
# connection and its upload are made of; and up to 40 threads that write files. It is 30 MiB in all, 38 on a busy
# machine; without a budget 75.
MOST_BESIDE = CLIENTS * 200 * 1024 + 40 * 256 * 1024


def slow_uploads(stack: contextlib.ExitStack, server: Server, framed: Callable[[bytes], bytes]) -> list[Client]:
    """Clients that have sent their bodies but for the end, in turns, so that all are on their way at the same time."""
    wire = framed(BODY)
    clients = [stack.enter_context(server.client()) for _ in range(CLIENTS)]
    for at in range(0, len(wire) - PIECE, PIECE):
        for client in clients:
            client.send(wire[at : at + PIECE])
    return clients


def with_length(body: bytes) -> bytes:
    return encode_request("POST", "/digest", body=body)


def in_chunks(body: bytes) -> bytes:
    return encode_request("POST", "/digest", [("Transfer-Encoding", "chunked")]) + encode_chunks(
        [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    )


def test_many_slow_uploads_take_no_more_than_the_budget(server_env: dict[str, str]) -> None:
    arguments = ["--workers", "1", "--threads", "4", "--body-memory", "8M"]
    with Server("tests.functional.support.bodies:app", *arguments, env=server_env) as server:
        (worker,) = server.worker_pids()
        with server.client() as client:
            client.send(with_length(BODY))
            client.read()
        idle = private_bytes(worker)
        for framed in (with_length, in_chunks):
            before = peak_memory(worker)
            with contextlib.ExitStack() as stack:
                clients = slow_uploads(stack, server, framed)
                wire = framed(BODY)
                last = (len(wire) - PIECE + PIECE - 1) // PIECE * PIECE
                for client in clients:
                    client.send(wire[last:])
                for client in clients:
                    assert json.loads(client.read().body) == [len(BODY), hashlib.sha256(BODY).hexdigest()]
            grown = peak_memory(worker) - before
            print(f"\n{grown / MEBIBYTE:.1f} MiB for {CLIENTS} uploads of {len(BODY)} bytes")
            assert grown < BUDGET + MOST_BESIDE
        # What is free after that is kept while there is work, and given back when there is none.
        assert wait_until(lambda: private_bytes(worker) - idle < 6 * MEBIBYTE)
