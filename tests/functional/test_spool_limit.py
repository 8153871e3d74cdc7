"""A small disk costs the clients that fill it a 503, and no other client anything (`--spool-limit`)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from starman.serving.resource_shortage import PERIOD
from tests.functional.support.applications import digest, pattern
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import Client, Response, TruncatedError, encode_chunks, encode_request

MEBIBYTE = 1 << 20
DISK_BYTES = 8 * MEBIBYTE
CLIENTS = 4
# Of these, one fits onto the disk, or two, and four do not.
BODY = pattern(5 * MEBIBYTE)
SMALL = pattern(2 * MEBIBYTE)
SMALL_ENOUGH = 2 * MEBIBYTE + 500_000

# Where nothing can be mounted, the application makes every write beyond this fail as on a full disk.
SMALL_FILES = """
import errno
import resource
from tests.functional.support.bodies import app
resource.setrlimit(resource.RLIMIT_FSIZE, (4 << 20, resource.RLIM_INFINITY))
"""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A file system of DISK_BYTES; None where this process may not mount one."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "starman-test", str(path)]
    try:
        mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        mounted = False
    yield path if mounted else None
    if mounted:
        subprocess.run(["umount", "-l", str(path)], check=True)


def head(length: int, *fields: tuple[str, str]) -> bytes:
    return encode_request("POST", "/digest", [("Content-Length", str(length)), *fields])


def is_digest(response: Response, body: bytes) -> bool:
    return bool(response.status == 200 and json.loads(response.body) == [len(body), hashlib.sha256(body).hexdigest()])


def serves_what_fits(server: Server) -> bool:
    with server.client() as other:
        with contextlib.suppress(ConnectionError):  # it is refused while it sends
            other.send(head(SMALL_ENOUGH) + BODY[:SMALL_ENOUGH])
        return is_digest(other.read(), BODY[:SMALL_ENOUGH])


def is_refused(response: Response) -> bool:
    return response.status == 503 and response.get("Retry-After") == "5" and response.get("Connection") == "close"


def send_in_turns(clients: list[Client], wire: bytes) -> None:
    """Each sends a piece, then the next one; a client that is refused may be reset."""
    for at in range(0, len(wire), 100_000):
        for client in clients:
            with contextlib.suppress(ConnectionError):
                client.send(wire[at : at + 100_000])


@pytest.mark.parametrize("limit", ["0", "auto", "6M"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_bodies_that_fill_the_disk_are_refused_and_no_others(
    limit: str, framing: str, small_disk: Path | None, tmp_path: Path
) -> None:
    """With 0 the disk itself is full; else the budget is used up before."""
    application, body = "tests.functional.support.bodies:app", BODY if limit != "auto" else SMALL
    env = {"TMPDIR": str(small_disk or tmp_path)}
    arguments = ["--workers", "1", "--spool-limit", limit, "-I", str(tmp_path)]
    if small_disk is None and limit != "6M":
        (tmp_path / "small.py").write_text(SMALL_FILES)
        application = "small:app"
    if framing == "length":
        wire = head(len(body)) + body
    else:
        wire = encode_request("POST", "/digest", [("Transfer-Encoding", "chunked")]) + encode_chunks(
            [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
        )
    with Server(application, *arguments, env=env) as server, ExitStack() as stack:
        began = time.monotonic()
        clients = [stack.enter_context(server.client()) for _ in range(CLIENTS)]
        send_in_turns(clients, wire)
        answers = [client.read() for client in clients]
        assert all(is_digest(answer, body) or is_refused(answer) for answer in answers), [answer.status for answer in answers]
        assert any(is_refused(answer) for answer in answers)
        # What fits is served from then on: the space is free again.
        for client in clients:
            client.close()
        assert wait_until(lambda: serves_what_fits(server))
        server.wait_for("the spool file of a request body failed")
        lines = server.log.count("ERROR] the spool file of a request body failed: ")
        assert 1 <= lines <= 1 + (time.monotonic() - began) // PERIOD
        assert "Traceback" not in server.log


def test_a_body_that_cannot_fit_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    arguments = ["--workers", "1", "--spool-limit", "5100K"]  # two that fit may be there at the same time
    with Server("tests.functional.support.bodies:app", *arguments, env={"TMPDIR": str(tmp_path)}) as server:
        for expect in ([("Expect", "100-continue")], []):
            with server.client() as client:
                client.send(head(len(BODY), *expect))
                assert is_refused(client.read())
            with server.client() as client:
                client.send(head(SMALL_ENOUGH, *expect))
                if expect:
                    assert client.read_head().status == 100
                client.send(BODY[:SMALL_ENOUGH])
                assert is_digest(client.read(), BODY[:SMALL_ENOUGH])
        with server.client() as client:
            client.send(b"HEAD /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 6000000\r\n\r\n")
            answer = client.socket.recv(65_536)
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert answer.endswith(b"\r\n\r\n"), "the answer to a HEAD has no content"


def test_what_a_client_takes_up_is_refused_to_others_until_it_leaves(tmp_path: Path) -> None:
    arguments = ["--workers", "1", "--spool-limit", "6M", "--threads", "1"]
    with Server("tests.functional.support.bodies:app", *arguments, env={"TMPDIR": str(tmp_path)}) as server:
        with server.client() as greedy:
            greedy.send(head(len(BODY)) + BODY[:-1])

            def refused() -> bool:
                with server.client() as other:
                    other.send(head(SMALL_ENOUGH))
                    other.socket.settimeout(0.2)
                    with contextlib.suppress(TimeoutError):
                        return is_refused(other.read())
                return False

            assert wait_until(refused)
            with server.client() as other:
                other.send(head(1000) + BODY[:1000])  # what needs no file is served
                assert is_digest(other.read(), BODY[:1000])
        assert wait_until(lambda: serves_what_fits(server))


def test_responses_that_cannot_be_kept_are_cut(tmp_path: Path) -> None:
    """Of three, the first has the space; the others still work, and when it is read the next one may have it."""
    size = 16_000_000
    arguments = ["--workers", "1", "--spool-limit", "20M"]
    with (
        Server("tests.functional.support.applications:app", *arguments, env={"TMPDIR": str(tmp_path)}) as server,
        ExitStack() as stack,
    ):

        def slow() -> Client:
            client = stack.enter_context(server.client())
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            client.send(encode_request("GET", f"/size/{size}"))
            assert client.read_head().status == 200
            return client

        began = time.monotonic()
        first = slow()
        cut = [slow() for _ in range(2)]
        server.wait_for("a client that reads slowly is reset, because its response cannot be kept: 127.0.0.1, .*spool_limit")
        for client in cut:
            with pytest.raises((TruncatedError, ConnectionError)):
                client._read_exactly(size)
        with server.client() as other:
            assert other.get("/hello").body == b"hello\n"
        assert digest(first._read_exactly(size)) == digest(pattern(size))
        first.close()
        assert wait_until(lambda: not spool_files(server, tmp_path))
        assert digest(slow()._read_exactly(size)) == digest(pattern(size))
        lines = server.log.count("ERROR] the connection of a client that reads slowly is reset")
        assert 1 <= lines <= 1 + (time.monotonic() - began) // PERIOD


def spool_files(server: Server, directory: Path) -> list[str]:
    """The temporary files that the only worker has open."""
    (worker,) = server.worker_pids()
    names = []
    for number in os.listdir(f"/proc/{worker}/fd"):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/{worker}/fd/{number}"))
    return [name for name in names if name.startswith(str(directory)) and name.endswith("(deleted)")]
