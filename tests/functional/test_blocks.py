"""Blocks of a response, from real servers: held blocks are sent while the next one is made, whatever makes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import Server
from tests.functional.support.wire import Client, encode_request

COUNT = 500

# Blocks as fast as they can be made; then nothing, until the test has seen all of them.
PROGRAM = f"""
import os, time

BLOCKS = [b"%d," % number for number in range({COUNT})]


def wait(how):
    while not os.path.exists("seen"):
        if how == "block":
            time.sleep(0.01)
        else:
            sum(range(10_000))


def app(environ, start_response):
    _, manner, how = environ["PATH_INFO"].split("/")
    write = start_response("200 OK", [("Content-Type", "text/plain")])
    if manner == "write":
        for block in BLOCKS:
            write(block)
        wait(how)
        return [b"end"]
    return made(how)


def made(how):
    yield from BLOCKS
    wait(how)
    yield b"end"
"""
GATHERED = b"".join(b"%d," % number for number in range(COUNT))


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "blocks.py").write_text(PROGRAM)
    return tmp_path


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"), "localhost")


def take(client: Client, count: int) -> bytes:
    """That many bytes of a chunked body."""
    data = bytearray()
    while len(data) < count:
        size = int(client._read_until(b"\r\n"), 16)
        data += client._read_exactly(size)
        assert client._read_exactly(2) == b"\r\n"
    return bytes(data)


@pytest.mark.parametrize("how", ["block", "compute"])
@pytest.mark.parametrize("manner", ["yield", "write"])
@pytest.mark.parametrize("kind", ["plain", "tls", "no threads"])
def test_nothing_stays_while_the_next_block_is_made(kind: str, manner: str, how: str, site: Path, pair: Pair) -> None:
    arguments = {"plain": ["--threads", "2"], "tls": ["--threads", "2", *pair.arguments], "no threads": ["--threads", "0"]}[kind]
    listen = "127.0.0.1:0:ssl" if kind == "tls" else "127.0.0.1:0"
    with (
        Server("blocks:app", "--workers", "1", *arguments, cwd=site, listen=listen) as server,
        TlsClient(server.port, pair) if kind == "tls" else server.client() as client,
    ):
        for _ in range(3):
            client.send(encode_request("GET", f"/{manner}/{how}"))
            assert client.read_head().status == 200
            assert take(client, len(GATHERED)) == GATHERED
            (site / "seen").touch()
            assert take(client, 3) == b"end"
            assert client._read_exactly(5) == b"0\r\n\r\n"
            (site / "seen").unlink()


def test_what_is_gathered_is_lost_with_a_client_that_goes(site: Path) -> None:
    with Server("blocks:app", "--workers", "1", "--threads", "1", cwd=site) as server:
        for _ in range(5):
            with server.client() as client:
                client.send(encode_request("GET", "/yield/block"))
                client.read_head()
            (site / "seen").touch()
            with server.client() as client:
                assert client.get("/yield/block").body == GATHERED + b"end"
            (site / "seen").unlink()
    assert "ERROR" not in server.log
