"""Ten thousand requests of every kind, on concurrent connections, each with exactly the right bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import pytest

from tests.functional.support.applications import digest, pattern
from tests.functional.support.harness import Server
from tests.functional.support.wire import Client, encode_chunks, encode_request

REQUESTS = 10_000
CLIENTS = 12
PIPELINED = 5
UPLOAD_BYTES = 5_000_000
CHUNKED = ("Transfer-Encoding", "chunked")

# A step makes its requests on the client's connection, checks the answers, and returns how many they were.
Step = Callable[[Client, random.Random], int]


def get(client: Client, chance: random.Random) -> int:
    size = chance.choice([0, 1, 100, 5000, 70_000])
    response = client.get(f"/size/{size}")
    assert (response.status, response.framing, response.body) == (200, "length", pattern(size))
    return 1


def head(client: Client, chance: random.Random) -> int:
    response = client.request("HEAD", chance.choice(["/size/1000", "/stream/1000", "/hello"]))
    assert (response.status, response.body) == (200, b"")
    return 1


def post(client: Client, chance: random.Random) -> int:
    body = chance.randbytes(chance.randrange(20_000))
    response = client.request("POST", "/echo", body=body)
    assert (response.status, response.body) == (200, body)
    return 1


def chunked_upload(client: Client, chance: random.Random) -> int:
    blocks = [chance.randbytes(chance.randrange(1, 3000)) for _ in range(chance.randrange(10))]
    client.send(encode_request("POST", "/echo", [CHUNKED]) + encode_chunks(blocks))
    response = client.read()
    assert (response.status, response.body) == (200, b"".join(blocks))
    return 1


def stream(client: Client, chance: random.Random) -> int:
    size = chance.randrange(30_000)
    response = client.get(f"/stream/{size}?step={chance.choice([100, 1000, 9999])}")
    assert (response.status, response.framing, response.body) == (200, "chunked", pattern(size))
    return 1


def pipelined(client: Client, chance: random.Random) -> int:
    expected: list[tuple[str, bytes]] = []
    sent = b""
    for _ in range(PIPELINED):
        size = chance.randrange(2000)
        method, target, body, answer = chance.choice(
            [
                ("GET", f"/size/{size}", None, pattern(size)),
                ("GET", f"/stream/{size}", None, pattern(size)),
                ("HEAD", f"/size/{size}", None, b""),
                ("POST", "/echo", pattern(size), pattern(size)),
                ("POST", "/digest", pattern(size), digest(pattern(size))),
            ]
        )
        sent += encode_request(method, target, body=body)
        expected.append((method, answer))
    client.send(sent)
    assert [response.body for response in client.read_many(method for method, _ in expected)] == [body for _, body in expected]
    return PIPELINED


@lru_cache(maxsize=1)
def upload_request() -> bytes:
    return encode_request("POST", "/digest", body=pattern(UPLOAD_BYTES))


def large_upload(client: Client, chance: random.Random) -> int:
    client.send(upload_request())
    assert client.read().body == LARGE_DIGEST
    return 1


LARGE_DIGEST = digest(pattern(UPLOAD_BYTES))
# The share of each step, in percent of the steps.
STEPS: dict[Step, float] = {get: 36, head: 12, post: 12, chunked_upload: 12, stream: 15, pipelined: 12, large_upload: 1}


def run_client(server: Server, seed: int) -> int:
    """One client: random steps until its share of the requests is made, with a new connection now and then."""
    chance = random.Random(seed)
    client = server.client()
    made = 0
    try:
        while made < REQUESTS / CLIENTS:
            (step,) = chance.choices(list(STEPS), list(STEPS.values()))
            made += step(client, chance)
            if chance.random() < 0.02:
                client.close()
                client = server.client()
    finally:
        client.close()
    return made


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "unix"])
def test_mixed_requests_get_exactly_their_bytes(server_env: dict[str, str], tmp_path: str, listen: str) -> None:
    where = f"{tmp_path}/server.sock" if listen == "unix" else listen
    arguments = ("--workers", "2", "--threads", "4")
    with Server("tests.functional.support.applications:app", *arguments, listen=where, env=server_env) as server:
        with ThreadPoolExecutor(CLIENTS) as pool:
            made = sum(pool.map(lambda seed: run_client(server, seed), range(CLIENTS)))
        assert made >= REQUESTS
        assert "ERROR" not in server.log, server.log
