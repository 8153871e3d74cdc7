"""Slow readers hold no thread but those that may wait for them, and get every byte: real workers, plain and TLS."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.functional.conftest import Events
from tests.functional.support.applications import digest, pattern
from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import Client, NoResponseError, TruncatedError, encode_request, refuses

APPLICATION = "tests.functional.support.applications:app"
SIZE = 16_000_000
WHOLE = digest(pattern(SIZE))
READERS = 5
RECEIVE_BYTES = 65_536


class Service:
    """One worker with spool files in a directory of their own, and clients of it that read when the test says so."""

    def __init__(self, env: dict[str, str], pair: Pair, directory: Path, *arguments: str, secure: bool = False) -> None:
        self.pair = pair if secure else None
        self.spools = directory / "spools"
        self.spools.mkdir()
        listen = "127.0.0.1:0:ssl" if secure else "127.0.0.1:0"
        arguments = ("--workers", "1", *arguments, *(pair.arguments if secure else ()))
        self.server = Server(APPLICATION, *arguments, listen=listen, env={**env, "TMPDIR": str(self.spools)})
        (self.worker,) = self.server.worker_pids()
        self._stack = ExitStack()

    def __enter__(self) -> Service:
        self._stack.enter_context(self.server)
        return self

    def __exit__(self, *arguments: object) -> None:
        self._stack.__exit__(*arguments)  # type: ignore[arg-type]

    def client(self, receive_bytes: int = 0) -> Client:
        if self.pair is not None:
            return self._stack.enter_context(TlsClient(self.server.port, self.pair, receive_bytes=receive_bytes))
        client = self._stack.enter_context(self.server.client())
        if receive_bytes:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        return client

    def slow(self, target: str) -> Client:
        """A client that has read the head of its response, and no more."""
        client = self.client(RECEIVE_BYTES)
        client.send(encode_request("GET", target))
        assert client.read_head().status == 200
        return client

    def answers(self) -> None:
        """Whether other clients are served."""
        for _ in range(10):
            with self.client() as other:
                assert other.get("/hello").body == b"hello\n"

    def files(self) -> list[str]:
        """The open spool files, by descriptor. They have no name; the one by which Python tries a directory, once, has
        one."""
        names = []
        for number in os.listdir(f"/proc/{self.worker}/fd"):
            with contextlib.suppress(FileNotFoundError):
                names.append(os.readlink(f"/proc/{self.worker}/fd/{number}"))
        return [name for name in names if name.startswith(str(self.spools)) and name.endswith(" (deleted)")]

    def anonymous_bytes(self) -> int:
        """How much memory the worker has of its own."""
        status = Path(f"/proc/{self.worker}/status").read_text()
        found = re.search(r"RssAnon:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.worker}/task"))


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return Pair(directory, "localhost")


@pytest.fixture(params=[False, True], ids=["plain", "tls"])
def secure(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def length_delimited(client: Client) -> bytes:
    return digest(client._read_exactly(SIZE))


def chunked(client: Client) -> bytes:
    return digest(client._read_chunks())


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_finished_responses_hold_no_thread_and_little_memory(
    threads: int, secure: bool, server_env: dict[str, str], pair: Pair, tmp_path: Path
) -> None:
    with Service(server_env, pair, tmp_path, "--threads", str(threads), secure=secure) as service:
        # What the application takes to make some is the allocator's to keep.
        for _ in range(3):
            assert len(service.client().get(f"/size/{SIZE}").body) == SIZE
        before = service.anonymous_bytes()
        clients = [service.slow(f"/size/{SIZE}") for _ in range(READERS)]
        service.answers()
        assert wait_until(lambda: len(service.files()) == READERS)
        if threads == 1:  # each thread has an arena of its own, which the allocator keeps as well
            assert service.anonymous_bytes() - before < 2 * SIZE
        with ThreadPoolExecutor(READERS) as pool:
            assert set(pool.map(length_delimited, clients)) == {WHOLE}
        assert wait_until(lambda: not service.files())
        for client in clients:
            client._within_response = False
            assert client.get("/hello").body == b"hello\n"


@pytest.mark.parametrize("threads", [2, 4])
def test_streams_leave_one_thread_to_others(
    threads: int, secure: bool, server_env: dict[str, str], pair: Pair, tmp_path: Path
) -> None:
    with Service(server_env, pair, tmp_path, "--threads", str(threads), secure=secure) as service:
        clients = [service.slow(f"/stream/{SIZE}?step=100000") for _ in range(READERS)]
        service.answers()
        # Responses of threads that may not wait, and have passed all to the loop.
        assert wait_until(lambda: len(service.files()) == READERS - (threads - 1))
        with ThreadPoolExecutor(READERS) as pool:
            assert set(pool.map(chunked, clients)) == {WHOLE}
        assert wait_until(lambda: not service.files())


def test_a_stream_has_the_only_thread(secure: bool, server_env: dict[str, str], pair: Pair, tmp_path: Path) -> None:
    with Service(server_env, pair, tmp_path, "--threads", "1", secure=secure) as service:
        client = service.slow(f"/stream/{SIZE}?step=100000")
        assert service.files() == []
        assert chunked(client) == WHOLE


def test_heads_and_304_have_nothing_to_spool(secure: bool, server_env: dict[str, str], pair: Pair, tmp_path: Path) -> None:
    with Service(server_env, pair, tmp_path, "--response-buffer", "0", secure=secure) as service:
        client = service.client()
        for target in (f"/size/{SIZE}", f"/stream/{SIZE}"):
            response = client.request("HEAD", target)
            assert (response.status, response.body) == (200, b"")
        response = client.get("/status/304")
        assert (response.status, response.framing) == (304, "none")
        assert client.get("/hello").body == b"hello\n"


def test_clients_that_leave_leave_nothing(
    secure: bool, server_env: dict[str, str], pair: Pair, tmp_path: Path, events: Events
) -> None:
    def reset_all(name: str) -> None:
        clients = [service.slow(f"/size/{SIZE}") for _ in range(3)]
        clients += [service.slow(f"/endless?name={name}") for _ in range(3)]
        assert wait_until(lambda: len(service.files()) >= 3)
        for client in clients:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.close()
        assert wait_until(lambda: events.count(f"close {name}") == 3)
        service.answers()
        assert wait_until(lambda: not service.files())

    kind = "tls" if secure else "plain"
    arguments = ("--threads", "2", "--response-spool", "100M")
    with Service(server_env, pair, tmp_path, *arguments, secure=secure) as service:
        reset_all(f"{kind}-first")
        threads, memory = service.threads(), service.anonymous_bytes()
        for number in range(4):
            reset_all(f"{kind}-{number}")
        assert wait_until(lambda: service.threads() <= threads)
        # Twelve responses were made since, and the allocator keeps what it likes of three or four.
        assert service.anonymous_bytes() - memory < 5 * SIZE
        assert "Traceback" not in service.server.log
        assert "could not be sent" not in service.server.log


def test_an_endless_response_is_cut_at_the_limit_of_its_spool(
    secure: bool, server_env: dict[str, str], pair: Pair, tmp_path: Path, events: Events
) -> None:
    arguments = ("--threads", "2", "--response-spool", "4M")
    kind = "tls" if secure else "plain"
    with Service(server_env, pair, tmp_path, *arguments, secure=secure) as service:
        clients = [service.slow(f"/endless?name=greedy-{kind}") for _ in range(2)]
        events.wait_for(f"close greedy-{kind}")
        service.answers()
        assert events.count(f"close greedy-{kind}") == 1  # the other's thread waits
        service.server.wait_for("would need more than 4194304 bytes")
        assert service.server.log.count("its file would need more than 4194304 bytes (response_spool)") == 1
        ends = [client for client in clients if is_cut(client)]
        assert len(ends) == 1


def is_cut(client: Client) -> bool:
    """Whether the connection ends after what was on its way."""
    try:
        for _ in range(10):
            client._read_exactly(1_000_000)
    except (TruncatedError, ConnectionResetError, ssl.SSLError):
        return True
    return False


FULL_DISK = """
import resource
from tests.functional.support.applications import app
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
"""


def test_a_disk_that_is_full_costs_the_client_and_a_line(
    secure: bool, server_env: dict[str, str], pair: Pair, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process's limit for the size of a file fails a write as a full disk does."""
    (tmp_path / "full.py").write_text(FULL_DISK)
    monkeypatch.setattr("tests.functional.test_slow_readers.APPLICATION", "full:app")
    with Service(server_env, pair, tmp_path, "--threads", "1", "-I", str(tmp_path), secure=secure) as service:
        client = service.client(RECEIVE_BYTES)
        client.send(encode_request("GET", f"/size/{SIZE}"))
        service.server.wait_for("a client that reads slowly is reset")
        with pytest.raises((TruncatedError, ConnectionResetError, ssl.SSLError, NoResponseError)):
            client.read()
        service.answers()
        assert service.files() == []
        assert len(re.findall(r"a client that reads slowly is reset, .*File too large", service.server.log)) == 1
        assert "Traceback" not in service.server.log


def test_a_directory_that_is_gone_costs_the_client_and_a_line(server_env: dict[str, str], pair: Pair, tmp_path: Path) -> None:
    with Service(server_env, pair, tmp_path, "--threads", "1") as service:
        first = service.slow(f"/size/{SIZE}")
        assert wait_until(lambda: len(service.files()) == 1)  # Python looks for a directory once
        service.spools.rename(tmp_path / "elsewhere")
        client = service.client(RECEIVE_BYTES)
        client.send(encode_request("GET", f"/size/{SIZE}"))
        service.server.wait_for("a client that reads slowly is reset")
        with pytest.raises((TruncatedError, ConnectionResetError)):
            client.read()
        service.answers()
        assert length_delimited(first) == WHOLE
        assert len(re.findall(r"a client that reads slowly is reset, .*No such file", service.server.log)) == 1


@pytest.fixture
def spooled(secure: bool, server_env: dict[str, str], pair: Pair, tmp_path: Path) -> Iterator[tuple[Service, Client]]:
    """A client with a response in a file."""
    with Service(server_env, pair, tmp_path, "--graceful-timeout", "30", secure=secure) as service:
        client = service.slow(f"/size/{SIZE}")
        assert wait_until(lambda: len(service.files()) == 1)
        yield service, client


def test_a_graceful_stop_waits_for_what_is_spooled(spooled: tuple[Service, Client]) -> None:
    service, client = spooled
    service.server.signal(signal.SIGQUIT)
    assert wait_until(lambda: refuses(service.server.port))
    assert length_delimited(client) == WHOLE
    assert service.server.wait() == 0
    assert "are reset" not in service.server.log
