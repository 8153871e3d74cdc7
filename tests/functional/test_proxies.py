"""The server behind real proxies, nginx and HAProxy, on TCP and UNIX listeners: pages, uploads, kept upstream
connections, restarts."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.functional.support.applications import digest, pattern
from tests.functional.support.harness import Server
from tests.functional.support.proxies import PROXIES, proxied
from tests.functional.support.wire import Client, encode_chunks, encode_request


@pytest.fixture(scope="module", params=["tcp", "unix"])
def upstream(request: pytest.FixtureRequest, directory: Path, server_env: dict[str, str]) -> Iterator[Server]:
    listen = f"{directory}/upstream.sock" if request.param == "unix" else "127.0.0.1:0"
    # REMOTE_PORT is to be the proxy's.
    arguments = ("--workers", "2", "--threads", "4", "--forwarded-allow-ips", "none")
    with Server("tests.functional.support.applications:app", *arguments, listen=listen, env=server_env) as server:
        yield server


@pytest.fixture(scope="module", params=list(PROXIES))
def proxy(request: pytest.FixtureRequest, upstream: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a proxy in front of `upstream`."""
    with proxied(request.param, upstream, tmp_path_factory.mktemp(request.param)) as port:
        yield port


@pytest.fixture
def client(proxy: int) -> Iterator[Client]:
    with Client(("127.0.0.1", proxy)) as connected:
        yield connected


def test_pages(client: Client) -> None:
    assert client.get("/hello").body == b"hello\n"
    assert client.get("/size/3000000").body == pattern(3_000_000)
    assert client.get("/stream/3000000?step=30000").body == pattern(3_000_000)
    assert client.request("HEAD", "/stream/1000").body == b""
    assert client.get("/status/204").status == 204
    assert client.get("/file").body == pattern(300_000)
    assert client.get("/nothing").status == 404
    assert client.get("/error-before").status == 500
    assert client.get("/hello").body == b"hello\n"


def test_uploads(client: Client) -> None:
    body = pattern(5_000_000)
    assert client.request("POST", "/digest", body=body).body == digest(body)
    assert client.request("POST", "/echo", body=b"").body == b""
    blocks = [body[offset : offset + 50_000] for offset in range(0, 2_000_000, 50_000)]
    client.send(encode_request("POST", "/digest", [("Transfer-Encoding", "chunked")]) + encode_chunks(blocks))
    assert client.read().body == digest(body[:2_000_000])


ASCII = "".join(map(chr, range(0x21, 0x7F)))


@pytest.mark.parametrize("prefix", ["", "/decoded"])
def test_every_byte_of_a_path_and_a_query(request: pytest.FixtureRequest, client: Client, prefix: str) -> None:
    """All of ASCII's printable bytes: encoded in a path, which a proxy may decode, and raw in a query."""
    if prefix and "haproxy" in request.node.name:
        return  # it passes paths on as they are
    path = "".join(f"%{ord(character):02X}" for character in ASCII if character != "/")
    query = ASCII.replace("#", "")
    response = client.get(f"{prefix}/environ/{path}?{query}")
    assert response.status == 200, response
    environ = json.loads(response.body)
    assert environ["PATH_INFO"] == "/environ/" + ASCII.replace("/", "")
    assert environ["QUERY_STRING"] == query
    raw = "/environ/" + ASCII.translate(dict.fromkeys(map(ord, "#%/?")))
    assert json.loads(client.get(prefix + raw).body)["PATH_INFO"] == raw


def test_the_proxy_keeps_its_upstream_connections(upstream: Server, client: Client) -> None:
    if upstream.ports:
        ports = {environ_port(client.get("/environ").body) for _ in range(40)}
        assert len(ports) <= 8
    else:
        assert {client.get("/hello").status for _ in range(40)} == {200}


def environ_port(body: bytes) -> str:
    _, _, rest = body.partition(b'"REMOTE_PORT": "')
    port = rest.partition(b'"')[0].decode()
    assert port.isdigit(), body
    return port


def test_many_clients_at_once(proxy: int) -> None:
    def work(number: int) -> int:
        with Client(("127.0.0.1", proxy)) as client:
            for turn in range(50):
                body = pattern(number * 500 + turn)
                assert client.request("POST", "/echo", body=body).body == body
                assert client.get(f"/stream/{turn * 100}").body == pattern(turn * 100)
        return number

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(work, range(10))) == list(range(10))


@pytest.mark.parametrize("listen", ["tcp", "unix"])
@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_a_rolling_restart_is_not_seen_through_the_proxy(name: str, listen: str, tmp_path: Path) -> None:
    where = f"{tmp_path}/starman.sock" if listen == "unix" else "127.0.0.1:0"
    enough = threading.Event()
    with (
        Server("tests.functional.support.applications:app", "--workers", "2", listen=where) as server,
        proxied(name, server, tmp_path) as port,
        ThreadPoolExecutor(9) as pool,
    ):

        def ask(number: int) -> int:
            """Closed loop: kept connections and new ones, pages and uploads."""
            count = 0
            while not enough.is_set():
                with Client(("127.0.0.1", port)) as client:
                    for _ in range(20 if number % 3 else 1):
                        assert client.get("/hello").status == 200
                        body = pattern(1000 * number)
                        assert client.request("POST", "/echo", body=body).body == body
                        count += 2
            return count

        asking = [pool.submit(ask, number) for number in range(8)]
        try:
            for turn in range(1, 4):
                server.signal(signal.SIGHUP)
                server.wait_for("restarted: 2 workers are new", 60, count=turn)
        finally:
            enough.set()
        assert all(done.result() > 0 for done in asking)
