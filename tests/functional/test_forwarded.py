"""What applications, the access log and the error log take for the client behind real proxies, which speak TLS: nginx
and HAProxy, on TCP and UNIX listeners. And what becomes of forged fields."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.support.harness import Server, wait_until
from tests.functional.support.tls_proxies import TLS_PROXIES, Proxy, tls_proxy
from tests.functional.support.wire import Client, encode_request

APPLICATION = "tests.functional.support.behind_proxies:app"
# The proxies are at 127.0.0.1, which is trusted; this client is not.
CLIENT = "127.0.0.9"
FORGED = (
    ("X-Forwarded-For", "192.0.2.66"),
    ("Forwarded", "for=192.0.2.66;proto=https;host=evil.example"),
    ("X-Forwarded-Host", "evil.example"),
    ("X-Forwarded-Port", "66"),
    ("X-Forwarded-Prefix", "/evil"),
    ("X_Forwarded_For", "192.0.2.66"),
    ("SCRIPT_NAME", "/plain"),
    ("X-Real-IP", "192.0.2.66"),
)


@pytest.fixture(scope="module", params=["tcp", "unix"])
def upstream(request: pytest.FixtureRequest, directory: Path, server_env: dict[str, str]) -> Iterator[Server]:
    listen = f"{directory}/upstream.sock" if request.param == "unix" else "127.0.0.1:0"
    arguments = ("--workers", "1", "--threads", "1", "--max-body", "100", "--access-log", str(directory / "access.log"))
    with Server(APPLICATION, *arguments, listen=listen, env=server_env) as server:
        yield server


@pytest.fixture(scope="module", params=list(TLS_PROXIES))
def proxy(request: pytest.FixtureRequest, upstream: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy in front of `upstream`."""
    with tls_proxy(request.param, upstream, tmp_path_factory.mktemp(request.param)) as running:
        yield running


def page(client: Client, path: str, *fields: tuple[str, str]) -> dict[str, Any]:
    response = client.get(path, *fields)
    assert response.status == 200, response
    answer: dict[str, Any] = json.loads(response.body)
    return answer


@pytest.mark.parametrize("application", ["flask", "proxyfix", "django"])
@pytest.mark.parametrize("fields", [(), FORGED], ids=["honest", "forged"])
def test_the_application_sees_the_client_and_https(proxy: Proxy, application: str, fields: tuple[tuple[str, str], ...]) -> None:
    with proxy.client(CLIENT) as client:
        seen = page(client, f"/{application}/a", *fields)
    assert seen["url"].startswith("https://"), seen
    assert "evil" not in seen["url"]
    assert (seen["secure"], seen["root"]) == (True, "")
    # Django itself does not read X-Forwarded-For: its address is that of the server.
    assert seen["address"] == CLIENT, seen


def test_a_client_cannot_state_its_scheme(proxy: Proxy) -> None:
    with proxy.client(CLIENT) as client:
        for fields in ([("X-Forwarded-Proto", "http")], [("X-Forwarded-Proto", "http"), ("X-Forwarded-Proto", "http")]):
            assert page(client, "/flask/a", *fields)["secure"] is True
        # A contradiction to what the proxy states harms only the client that sends it.
        assert client.get("/flask/a", ("X-Forwarded-Ssl", "off")).status == 400


def test_the_environ_through_a_proxy(proxy: Proxy) -> None:
    with proxy.client(CLIENT) as client:
        environ = page(client, "/plain/a", *FORGED)
    assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"], environ["wsgi.url_scheme"]) == (CLIENT, "0", "https")
    assert environ["HTTP_X_FORWARDED_FOR"] == f"192.0.2.66, {CLIENT}"
    assert environ["SCRIPT_NAME"] == ""
    assert "HTTP_SCRIPT_NAME" not in environ


def test_the_access_log_has_the_client(proxy: Proxy, upstream: Server, directory: Path) -> None:
    path = f"/plain/{proxy.port}"
    with proxy.client(CLIENT) as client:
        page(client, path, *FORGED)
    log = directory / "access.log"
    assert wait_until(lambda: path in log.read_text(), 5.0)
    lines = [line for line in log.read_text().splitlines() if path in line]
    assert [line.partition(" ")[0] for line in lines] == [CLIENT]


@pytest.mark.parametrize("chunked", [False, True])
def test_a_refused_body_is_logged_with_the_client(proxy: Proxy, upstream: Server, directory: Path, chunked: bool) -> None:
    """A length is refused at the head, in the parser; chunks are refused when the body is too long."""
    source = f"127.0.1.{proxy.port % 100 + 100 * chunked}"
    with proxy.client(source) as client:
        if chunked:
            client.send(encode_request("POST", "/plain/", [("Transfer-Encoding", "chunked")]))
            client.send(b"c8\r\n" + b"a" * 200 + b"\r\n0\r\n\r\n")
            assert client.read().status == 413
        else:
            assert client.request("POST", "/plain/", body=b"a" * 200).status == 413
    upstream.wait_for(f"refused {source}: 413")
    log = directory / "access.log"
    assert wait_until(lambda: f"{source} - - " in log.read_text(), 5.0)


def test_a_direct_client_is_not_believed(upstream: Server, directory: Path) -> None:
    if isinstance(upstream.address, str):
        return  # only a trusted peer reaches a UNIX socket
    fields = (*FORGED, ("X-Forwarded-Proto", "https"), ("X-Forwarded-Ssl", "off"))
    with Client(upstream.address, source=CLIENT) as client:
        environ = page(client, "/plain/direct", *fields)
        assert (environ["REMOTE_ADDR"], environ["wsgi.url_scheme"]) == (CLIENT, "http")
        assert environ["REMOTE_PORT"] == str(client.socket.getsockname()[1])
        assert environ["HTTP_X_FORWARDED_FOR"] == "192.0.2.66"
        assert page(client, "/flask/a", *fields)["secure"] is False
        # An application that believes every peer, believes this one: its fields are passed on, as before.
        assert page(client, "/proxyfix/a", *fields)["address"] == "192.0.2.66"
        assert page(client, "/django/a", *fields)["secure"] is True
    log = directory / "access.log"
    assert wait_until(lambda: "/plain/direct" in log.read_text(), 5.0)
    assert f"{CLIENT} - - [" in next(line for line in log.read_text().splitlines() if "/plain/direct" in line)


@pytest.mark.parametrize(
    ("arguments", "fields", "expected"),
    [
        (["--forwarded-allow-ips", "none"], [("X-Forwarded-Proto", "https")], {"wsgi.url_scheme": "http"}),
        (["--forwarded-allow-ips", "10.0.0.0/8"], [("X-Forwarded-For", "192.0.2.1")], {"REMOTE_ADDR": "127.0.0.1"}),
        (["--forwarded-allow-ips", "127.0.0.0/8"], [("X-Forwarded-For", "192.0.2.1")], {"REMOTE_ADDR": "192.0.2.1"}),
        (["--forwarded-allow-ips", "*"], [("X-Forwarded-For", "192.0.2.2, 192.0.2.1")], {"REMOTE_ADDR": "192.0.2.1"}),
        (
            ["--forwarded", "for,proto,rfc7239"],
            [("Forwarded", 'for="[2001:db8::1]:99";proto=https'), ("X-Forwarded-For", "192.0.2.1")],
            {"REMOTE_ADDR": "2001:db8::1", "REMOTE_PORT": "99", "wsgi.url_scheme": "https"},
        ),
        (
            ["--forwarded", "proto,host,port,prefix"],
            [("X-Forwarded-Host", "shop.example"), ("X-Forwarded-Port", "8443"), ("X-Forwarded-Prefix", "/shop")],
            {"HTTP_HOST": "shop.example:8443", "SERVER_NAME": "shop.example", "SERVER_PORT": "8443", "SCRIPT_NAME": "/shop"},
        ),
        (["--secure-scheme-headers", "X-Scheme=tls"], [("X-Scheme", "tls")], {"wsgi.url_scheme": "https"}),
        (
            ["--forwarder-headers", "SCRIPT_NAME,REMOTE_USER"],
            [("SCRIPT_NAME", "/plain"), ("Remote_User", "ann"), ("Remote-User", "eve")],
            {"SCRIPT_NAME": "", "PATH_INFO": "/plain/a", "HTTP_REMOTE_USER": "ann"},
        ),
        (["--header-map", "dangerous"], [("A_B", "c")], {"HTTP_A_B": "c"}),
    ],
)
def test_settings(arguments: list[str], fields: list[tuple[str, str]], expected: dict[str, str]) -> None:
    if ("SCRIPT_NAME", "/plain") in fields:
        fields = [("SCRIPT_NAME", "/"), *fields[1:]]  # this application chooses by PATH_INFO
    with Server(APPLICATION, "--workers", "1", *arguments) as server, server.client() as client:
        environ = page(client, "/plain/a", *fields)
        assert {name: environ[name] for name in expected} == expected


def test_refused_names() -> None:
    with Server(APPLICATION, "--workers", "1", "--header-map", "refuse") as server, server.client() as client:
        assert client.get("/plain/a", ("A-B", "c")).status == 200
        assert client.get("/plain/a", ("A_B", "c")).status == 400
        server.wait_for("refused 127.0.0.1: 400 the name of a field has a _, which header_map refuses")


def half_closed(server: Server, source: str, name: str, *fields: tuple[str, str]) -> Client:
    """A client that has sent a request and ended its stream."""
    assert not isinstance(server.address, str)
    client = Client(server.address, source=source)
    client.send(encode_request("GET", f"/slow/{name}", fields))
    client.socket.shutdown(socket.SHUT_WR)
    return client


def test_a_request_whose_proxy_has_left_is_not_run(tmp_path: Path) -> None:
    """Requests wait for the only thread. A client that half-closes gets its response; a proxy does not half-close."""
    events, log = tmp_path / "events", tmp_path / "access.log"
    arguments = ("--workers", "1", "--threads", "1", "--access-log", str(log))
    fields = ("X-Forwarded-For", "192.0.2.1")
    with Server(APPLICATION, *arguments, env={"TEST_EVENTS": str(events)}) as server:
        with server.client() as busy:
            busy.send(encode_request("GET", "/slow/busy?1"))
            assert wait_until(events.exists, 5.0)
            gone = half_closed(server, "127.0.0.1", "gone", fields)
            kept = half_closed(server, "127.0.0.1", "kept")
            direct = half_closed(server, CLIENT, "direct", fields)
            assert busy.read().status == 200
            assert kept.read().status == 200
            assert direct.read().status == 200
            assert gone.socket.recv(1) == b""
            for client in (gone, kept, direct):
                client.close()
        assert sorted(events.read_text().split()) == ["/slow/busy", "/slow/direct", "/slow/kept", *["called"] * 3]
        assert wait_until(lambda: "/slow/gone" in log.read_text(), 5.0)
        line = next(line for line in log.read_text().splitlines() if "/slow/gone" in line)
        assert line.startswith("192.0.2.1 ")
        assert '" 499 ' in line


@pytest.mark.parametrize("listen", ["tcp", "unix"])
def test_a_request_whose_client_has_left_nginx_is_not_run(listen: str, tmp_path: Path) -> None:
    events = tmp_path / "events"
    where = f"{tmp_path}/upstream.sock" if listen == "unix" else "127.0.0.1:0"
    arguments = ("--workers", "1", "--threads", "1")
    with (
        Server(APPLICATION, *arguments, listen=where, env={"TEST_EVENTS": str(events)}) as server,
        tls_proxy("nginx", server, tmp_path) as proxy,
        server.client() as busy,
    ):
        busy.send(encode_request("GET", "/slow/busy?1.5"))
        assert wait_until(events.exists, 5.0)
        with proxy.client(CLIENT) as client:
            client.send(encode_request("GET", "/slow/gone"))
            time.sleep(0.5)  # nginx passes the request on, which nothing outside shows
        assert busy.read().status == 200
        with proxy.client(CLIENT) as client:
            assert client.get("/slow/last").status == 200
        assert events.read_text().split() == ["called", "/slow/busy", "called", "/slow/last"]
