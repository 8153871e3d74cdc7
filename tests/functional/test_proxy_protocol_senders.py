"""The PROXY protocol through real HAProxy and nginx: TLS passed on or terminated, TCP and UNIX sockets, checks."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.applications import digest, pattern
from tests.functional.support.certificates import Pair
from tests.functional.support.harness import Server
from tests.functional.support.proxy_protocol import LocalClient, start_haproxy, start_nginx_stream, upstreams

VERSIONS = {"v1": "send-proxy", "v2": "send-proxy-v2", "v2-ssl": "send-proxy-v2-ssl"}
# HAProxy's options of the server, and of the frontend, for each way.
WAYS = {
    **{f"{where}-{version}": (where, option, "") for where in ("tcp", "tls", "unix") for version, option in VERSIONS.items()},
    "terminated-v1": ("tcp", "send-proxy", "tls"),
    "terminated-v2": ("unix", "send-proxy-v2-ssl-cn proxy-v2-options crc32c,unique-id,authority,ssl", "tls"),
    "http-v2": ("tcp", "send-proxy-v2 proxy-v2-options crc32c", "http"),
}


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return Pair(directory, "localhost")


@pytest.fixture(scope="module", params=["4", "0"], ids=["threads", "no-threads"])
def server(request: pytest.FixtureRequest, directory: Path, server_env: dict[str, str], pair: Pair) -> Iterator[Server]:
    arguments = ["--workers", "2", "--threads", request.param, "--proxy-protocol", "on", "--access-log", "-", *pair.arguments]
    listen = ["127.0.0.1:0", "127.0.0.1:0:ssl", f"{directory}/senders-{request.param}.sock"]
    with Server("tests.functional.support.applications:app", *arguments, listen=listen, env=server_env) as running:
        yield running
        assert "refused " not in running.log


@pytest.fixture(scope="module")
def haproxy(server: Server, pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """The port of HAProxy for each way."""
    directory = tmp_path_factory.mktemp("haproxy")
    pem = directory / "both.pem"
    pem.write_text(pair.certificate.read_text() + pair.key.read_text())
    found = upstreams(server)
    ways = {name: (found[where], options, front) for name, (where, options, front) in WAYS.items()}
    process, ports = start_haproxy(ways, directory, pem)
    try:
        yield ports
        assert "is DOWN" not in process.log, process.log  # its checks send a header too
    finally:
        process.kill()


@pytest.mark.parametrize("way", WAYS)
def test_haproxy(haproxy: dict[str, int], server: Server, pair: Pair, way: str) -> None:
    secure = "tls" in way or "terminated" in way
    with LocalClient(("127.0.0.1", haproxy[way]), pair=pair if secure else None) as client:
        for _ in range(2):
            environ = json.loads(client.get("/environ").body)
            assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == client.own_address
            # Only the TLS of the server itself counts.
            assert environ["wsgi.url_scheme"] == ("https" if way.startswith("tls") else "http")
        body = pattern(1_000_000)
        assert client.request("POST", "/digest", body=body).body == digest(body)
        assert client.get(f"/status/204?{way}").status == 204
        host = client.own_address[0].replace(".", r"\.")
    server.wait_for(rf'{host} - - \[[^]]+\] "GET /status/204\?{way} HTTP/1.1" 204')


def test_haproxy_sees_a_restart_of_all_workers(haproxy: dict[str, int], server: Server) -> None:
    """Each connection is served, also while workers drain."""
    count = server.log.count("workers are new")
    server.signal(signal.SIGHUP)
    while server.log.count("workers are new") == count:
        for way in ("tcp-v1", "unix-v2"):
            with LocalClient(("127.0.0.1", haproxy[way])) as client:
                environ = json.loads(client.get("/environ").body)
                assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == client.own_address


@pytest.mark.parametrize("way", ["tcp", "tls", "unix"])
def test_nginx(server: Server, pair: Pair, tmp_path: Path, way: str) -> None:
    found = upstreams(server)
    process, ports = start_nginx_stream({way: found[way]}, tmp_path)
    try:
        with LocalClient(("127.0.0.1", ports[way]), pair=pair if way == "tls" else None) as client:
            environ = json.loads(client.get("/environ").body)
            assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == client.own_address
            assert environ["wsgi.url_scheme"] == ("https" if way == "tls" else "http")
            body = pattern(1_000_000)
            assert client.request("POST", "/digest", body=body).body == digest(body)
    finally:
        process.kill()
    for word in ("[error]", "[crit]", "[alert]"):
        assert word not in process.log, process.log


def test_a_proxy_that_sends_no_header_is_refused_and_named(server_env: dict[str, str], tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--proxy-protocol", "on")
    with Server("tests.functional.support.applications:app", *arguments, env=server_env) as server:
        process, ports = start_haproxy({"plain": (f"127.0.0.1:{server.port}", "", "http")}, tmp_path, tmp_path)
        try:
            with LocalClient(("127.0.0.1", ports["plain"])) as client:
                assert client.get("/hello").status in (502, 503)
        finally:
            process.kill()
        server.wait_for(r"refused 127\.0\.0\.1: its first bytes are not a PROXY protocol header")
