"""Behind real proxies: nginx and HAProxy in front of a TCP and a UNIX listener. Pages, uploads, kept upstream connections."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.functional.applications import digest, pattern
from tests.functional.harness import Process, Server, wait_until
from tests.functional.tools import find_tool
from tests.functional.wire import Client, encode_chunks, encode_request

NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream starman {{ server {upstream}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://starman;
            proxy_http_version 1.1;
            proxy_request_buffering {buffering};
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
        }}
    }}
}}
"""

HAPROXY = """
global
    maxconn 256
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    retries 0
    http-reuse always
frontend clients
    bind 127.0.0.1:{port}
    default_backend starman
backend starman
    server one {upstream} maxconn 64
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_nginx(server: Server, directory: Path, port: int, buffering: str = "on") -> Process:
    upstream = f"unix:{server.address}" if isinstance(server.address, str) else f"127.0.0.1:{server.port}"
    text = NGINX.format(directory=directory, upstream=upstream, port=port, buffering=buffering)
    if os.geteuid() == 0:
        text = f"user root;{text}"  # its temporary files are in a directory that belongs to whom the tests run as
    path = directory / "nginx.conf"
    path.write_text(text)
    return Process([find_tool("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(path)], env={"NGINX": None})


def start_unbuffered_nginx(server: Server, directory: Path, port: int) -> Process:
    """Request bodies are passed on as they come, chunked ones as chunked."""
    return start_nginx(server, directory, port, buffering="off")


def start_haproxy(server: Server, directory: Path, port: int) -> Process:
    upstream = f"unix@{server.address}" if isinstance(server.address, str) else f"127.0.0.1:{server.port}"
    path = directory / "haproxy.cfg"
    path.write_text(HAPROXY.format(upstream=upstream, port=port))
    return Process([find_tool("haproxy"), "-db", "-f", str(path)])


def answers(port: int) -> bool:
    try:
        with Client(("127.0.0.1", port), 5.0) as client:
            return client.get("/hello").status == 200
    except OSError:
        return False


PROXIES: dict[str, Callable[[Server, Path, int], Process]] = {
    "nginx": start_nginx,
    "nginx-unbuffered": start_unbuffered_nginx,
    "haproxy": start_haproxy,
}


@pytest.fixture(scope="module", params=["tcp", "unix"])
def upstream(request: pytest.FixtureRequest, directory: Path, server_env: dict[str, str]) -> Iterator[Server]:
    listen = f"{directory}/upstream.sock" if request.param == "unix" else "127.0.0.1:0"
    arguments = ("--workers", "2", "--threads", "4")
    with Server("tests.functional.applications:app", *arguments, listen=listen, env=server_env) as server:
        yield server


@pytest.fixture(scope="module", params=list(PROXIES))
def proxy(request: pytest.FixtureRequest, upstream: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a proxy before `upstream`."""
    port = free_port()
    process = PROXIES[request.param](upstream, tmp_path_factory.mktemp(request.param), port)
    try:
        started = wait_until(lambda: process.status is not None or answers(port), 15)
        assert started, process.log
        assert process.status is None, process.log
        yield port
        for word in ("[error]", "[crit]", "[alert]", "is DOWN"):
            assert word not in process.log, process.log
    finally:
        process.kill()


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
