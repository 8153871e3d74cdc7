"""Uploads by common clients and to common frameworks, with bodies that are read as they arrive (`--stream-body`)."""

from __future__ import annotations

import hashlib
import json
import os
import random
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.functional.support.applications import pattern
from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import REPOSITORY, Server, wait_until
from tests.functional.support.tools import curl
from tests.functional.support.vitals import peak_memory
from tests.functional.support.wire import encode_chunks, encode_request

MEBIBYTE = 1024 * 1024
CHUNKED = ("Transfer-Encoding", "chunked")
ENV = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "examples")])}


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return Pair(directory, "localhost")


@pytest.fixture(scope="module")
def server(pair: Pair) -> Iterator[Server]:
    """One worker, a plain listener and one with TLS; the warnings of other people's packages are theirs."""
    arguments = ["--workers", "1", "--threads", "4", "--stream-body", *pair.arguments]
    listen = ["127.0.0.1:0", "127.0.0.1:0:ssl"]
    with Server("tests.functional.support.uploading:app", *arguments, listen=listen, env=ENV, warnings="default") as running:
        yield running
        assert "AssertionError" not in running.log


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


def counted(data: bytes) -> dict[str, object]:
    return {"length": len(data), "md5": hashlib.md5(data).hexdigest()}


# Clients


@pytest.fixture(scope="module")
def large(directory: Path) -> Path:
    """A file of 50 MB."""
    path = directory / "large"
    path.write_bytes(pattern(50 * MEBIBYTE))
    return path


@pytest.mark.parametrize("options", [[], ["-H", "Transfer-Encoding: chunked"], ["--http1.0"], ["-H", "Expect:"]])
def test_curl_uploads_50_megabytes(options: list[str], server: Server, large: Path) -> None:
    """With Expect: 100-continue, as curl does by itself with a file of this size, and without."""
    (worker,) = server.worker_pids()
    before = peak_memory(worker)
    answer = json.loads(curl("-T", str(large), *options, f"{server.url}/plain/read").stdout)
    assert answer == counted(pattern(50 * MEBIBYTE))
    assert peak_memory(worker) - before < 20 * MEBIBYTE


@pytest.mark.parametrize("size", [100, 10 * MEBIBYTE])
def test_curl_is_content_when_the_application_does_not_read(server: Server, directory: Path, size: int) -> None:
    body = directory / "body"
    body.write_bytes(pattern(size))
    answer = curl("-T", str(body), f"{server.url}/plain/nothing", f"{server.url}/plain/nothing").stdout
    assert answer.count(b'"length": 0') >= 1


def test_requests_sends_a_generator(server: Server, session: requests.Session) -> None:
    """Chunked, each piece a chunk; the connection is used again."""
    pieces = [pattern(size) for size in (1, 70_000, 5, 1_000_000)]
    for where in ("plain/read", "plain/lines", "flask/upload"):
        assert session.post(f"{server.url}/{where}", data=iter(pieces)).json() == counted(b"".join(pieces))


def test_many_clients_at_once(server: Server) -> None:
    def work(number: int) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for turn in range(30):
                data = pattern(number * 20_000 + turn)
                body: Any = data if turn % 2 else iter([data[:1000] or b"-", data[1000:] or b"-"])
                sent = data if turn % 2 else (data[:1000] or b"-") + (data[1000:] or b"-")
                assert session.post(f"{server.url}/plain/read", data=body).json() == counted(sent)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [None] * 8


# Frameworks


@pytest.mark.parametrize("framework", ["flask", "django"])
@pytest.mark.parametrize("size", [0, 100, 5 * MEBIBYTE])
def test_frameworks_read_forms_and_bodies(framework: str, size: int, server: Server, session: requests.Session) -> None:
    url, data = f"{server.url}/{framework}/upload", pattern(size)
    assert session.post(url, files={"file": ("name", data)}).json() == counted(data)
    assert session.post(url, data=data, headers={"Content-Type": "application/octet-stream"}).json() == counted(data)


def test_chunked_bodies_are_for_frameworks_with_input_terminated(server: Server, session: requests.Session) -> None:
    """Werkzeug does. Django reads as much as CONTENT_LENGTH says, which a streamed chunked body has none of:
    nothing."""
    data = pattern(200_000)
    kind = {"Content-Type": "application/octet-stream"}
    assert session.post(f"{server.url}/flask/upload", data=iter([data]), headers=kind).json() == counted(data)
    assert session.post(f"{server.url}/django/upload", data=iter([data]), headers=kind).json() == counted(b"")


@pytest.mark.parametrize("framework", ["flask", "django"])
def test_a_client_that_leaves_a_framework_costs_nothing(framework: str, server: Server, session: requests.Session) -> None:
    for _ in range(8):  # more than there are threads
        with server.client() as client:
            client.send(encode_request("POST", f"/{framework}/upload", [("Content-Length", "1000000")]) + b"some")
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    data = pattern(1000)
    kind = {"Content-Type": "application/octet-stream"}
    assert session.post(f"{server.url}/{framework}/upload", data=data, headers=kind).json() == counted(data)
    assert "the application failed" not in server.log


# TLS


def test_tls(server: Server, pair: Pair) -> None:
    data = pattern(5 * MEBIBYTE)
    with TlsClient(server.ports[1], pair) as client:
        for _ in range(2):
            response = client.request("POST", "/plain/read", body=data)
            assert (json.loads(response.body), response.persistent) == (counted(data), True)
        client.send(encode_request("POST", "/plain/lines", [CHUNKED]) + encode_chunks([data[:70_000], data[70_000:]]))
        assert json.loads(client.read().body) == counted(data)
        client.send(encode_request("POST", "/plain/read", [("Expect", "100-continue"), ("Content-Length", "4")]))
        assert client.read_head().status == 100
        client.send(b"body")
        assert json.loads(client.read().body) == counted(b"body")
        client.send(encode_request("POST", "/plain/read", [CHUNKED]) + b"5\r\nhello\r\nzz\r\n")
        assert (client.read().status, client.at_end()) == (400, True)


# Faults


def test_nothing_is_left_of_clients_that_break_off(server: Server) -> None:
    """Cut at any byte, in any way, with anything before it: afterwards descriptors and threads are what they were."""
    (worker,) = server.worker_pids()

    def held() -> tuple[int, int]:
        return len(os.listdir(f"/proc/{worker}/fd")), len(os.listdir(f"/proc/{worker}/task"))

    chance = random.Random(1)
    with server.client() as client:
        client.request("POST", "/plain/read", body=b"x")
    before = held()
    whole = encode_request("POST", "/plain/read", [CHUNKED]) + encode_chunks([pattern(70_000), b"x", pattern(400_000)])
    length = encode_request("POST", "/plain/nothing", body=pattern(400_000))
    for _ in range(150):
        with server.client() as client:
            if chance.random() < 0.5:
                client.request("POST", "/plain/read", body=b"x")
            data = chance.choice([whole, length])
            client.send(data[: chance.choice([chance.randrange(200), chance.randrange(len(data))])])
            if chance.random() < 0.5:
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif chance.random() < 0.5:
                client.socket.shutdown(socket.SHUT_WR)
                assert client.read_to_end()[:9] in (b"HTTP/1.1 ", b"")
    assert wait_until(lambda: held() <= before, 20.0), (held(), before)
    with server.client() as client:
        assert client.request("POST", "/plain/read", body=b"x").status == 200


@pytest.mark.parametrize(("arguments", "holds"), [([], False), (["/plain"], True), (["/other"], False)])
def test_a_slow_client_holds_a_thread_and_that_is_the_price(arguments: list[str], holds: bool) -> None:
    """With one thread, others wait for a slow upload that is streamed, and for no other."""
    options = ["--workers", "1", "--threads", "1", *(f"--stream-body-path={path}" for path in arguments)]
    with (
        Server("tests.functional.support.uploading:app", *options, env=ENV, warnings="default") as server,
        server.client() as client,
        server.client() as other,
    ):
        client.send(encode_request("POST", "/plain/read", [("Content-Length", "4"), ("Expect", "100-continue")]))
        assert client.read_head().status == 100
        other.socket.settimeout(0.5 if holds else 20.0)
        if holds:
            with pytest.raises(TimeoutError):
                other.request("POST", "/plain/nothing", body=b"")
        else:
            assert other.request("POST", "/plain/nothing", body=b"").status == 200
        client.send(b"body")
        assert client.read().status == 200
        other.socket.settimeout(20.0)
        if holds:
            assert other.read().status == 200
