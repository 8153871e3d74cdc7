"""The PROXY protocol (`--proxy-protocol`) with headers written by hand: what they change, and who is refused."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from starman.serving.refusallog import MOST_LINES
from tests.functional.support.certificates import Pair
from tests.functional.support.commands import starman
from tests.functional.support.harness import Process, Server, wait_until
from tests.functional.support.proxy_protocol import HERE, LocalClient, version_1, version_2
from tests.functional.support.wire import Client, encode_request

HEADERS = {
    "v1": version_1(),
    "v2": version_2(),
    "v1-ipv6": version_1("2001:db8::1"),
    "v2-ipv6": version_2("2001:db8::1"),
}
ENVIRON = encode_request("GET", "/environ")
NOTHING_BEGUN = "its first bytes are not a PROXY protocol header"
MALFORMED = "its PROXY protocol header is malformed"


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return Pair(directory, "localhost")


@pytest.fixture(scope="module", params=["4", "0"], ids=["threads", "no-threads"])
def server(request: pytest.FixtureRequest, directory: Path, server_env: dict[str, str], pair: Pair) -> Iterator[Server]:
    """One worker with a plain listener, one with TLS and a UNIX socket."""
    arguments = ["--workers", "1", "--threads", request.param, "--proxy-protocol", "on", "--access-log", "-", *pair.arguments]
    arguments += ["--proxy-allow-ips", "127.0.0.0/8,unix", "--header-timeout", "1.5"]
    listen = ["127.0.0.1:0", "127.0.0.1:0:ssl", f"{directory}/{request.param}.sock"]
    with Server("tests.functional.support.applications:app", *arguments, listen=listen, env=server_env) as running:
        yield running


@pytest.fixture(params=["tcp", "tls", "unix"])
def where(request: pytest.FixtureRequest, server: Server, directory: Path, pair: Pair) -> tuple[object, Pair | None]:
    """The address of a listener, and the certificate if it uses TLS."""
    if request.param == "unix":
        path = next(part for part in server.listeners.split(", ") if part.startswith("unix:")).removeprefix("unix:")
        return path, None
    secure = request.param == "tls"
    return ("127.0.0.1", server.ports[secure]), pair if secure else None


def connect(where: tuple[object, Pair | None], before: bytes) -> LocalClient:
    address, pair = where
    return LocalClient(address, before=before, pair=pair)  # type: ignore[arg-type]


def address_seen(client: Client) -> tuple[str, str]:
    environ = json.loads(client.get("/environ").body)
    return environ["REMOTE_ADDR"], environ["REMOTE_PORT"]


def is_closed(client: Client) -> bool:
    """Whether the server closes without an answer."""
    try:
        return client.socket.recv(1) == b""
    except ConnectionResetError:
        return True


# What the header changes


@pytest.mark.parametrize("header", HEADERS)
def test_the_client_has_the_address_of_the_header(where: tuple[object, Pair | None], server: Server, header: str) -> None:
    host = "2001:db8::1" if "ipv6" in header else "192.0.2.1"
    with connect(where, HEADERS[header]) as client:
        environ = json.loads(client.get("/environ").body)
        assert (environ["REMOTE_ADDR"], environ["REMOTE_PORT"]) == (host, "4711")
        assert environ["wsgi.url_scheme"] == ("https" if where[1] else "http")
        assert environ["SERVER_PORT"] not in ("443", "0") or where[0] != ("127.0.0.1", server.port)
        # It holds for all requests of the connection.
        assert address_seen(client) == (host, "4711")
        assert client.get(f"/status/204?{header}{id(where)}").status == 204
    server.wait_for(rf'{host} - - \[[^]]+\] "GET /status/204\?{header}{id(where)} HTTP/1.1" 204')


@pytest.mark.parametrize("header", ["v1", "v2"])
def test_the_header_may_come_byte_by_byte(where: tuple[object, Pair | None], header: str) -> None:
    address, pair = where
    client = LocalClient(address)  # type: ignore[arg-type]
    for at in range(len(HEADERS[header])):
        client.send(HEADERS[header][at : at + 1])
        time.sleep(0.002)
    if pair is not None:
        client.close()
        client = connect(where, HEADERS[header])
    with client:
        assert address_seen(client) == ("192.0.2.1", "4711")


@pytest.mark.parametrize("header", ["v1", "v2"])
def test_requests_in_the_same_packet_as_the_header(server: Server, header: str) -> None:
    body = b"x" * 100_000
    requests = [ENVIRON, encode_request("POST", "/echo", body=body), ENVIRON]
    with server.client() as client:
        client.send(HEADERS[header] + b"".join(requests))
        first, echoed, last = client.read_many(["GET", "POST", "GET"])
    assert json.loads(first.body)["REMOTE_ADDR"] == json.loads(last.body)["REMOTE_ADDR"] == "192.0.2.1"
    assert echoed.body == body


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", b"PROXY UNKNOWN ::1 ::2 1 2\r\n", version_2(command=0)])
def test_a_health_check_of_the_proxy_has_its_own_address(server: Server, header: bytes) -> None:
    with LocalClient(server.address, before=header) as client:
        assert address_seen(client) == client.own_address


def test_a_refused_request_is_logged_with_the_address_of_the_header(server: Server) -> None:
    with LocalClient(server.address, before=version_1("192.0.2.77")) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n")
        assert client.read().status == 400
    server.wait_for(r"refused 192\.0\.2\.77: 400")


def test_a_failed_handshake_is_logged_with_the_address_of_the_header(server: Server) -> None:
    with LocalClient(("127.0.0.1", server.ports[1]), before=version_2("192.0.2.78")) as client:
        client.send(b"\x16\x03\x01\x00\x02xx")
        client.read_to_end()
    server.wait_for(r"TLS handshake with 192\.0\.2\.78 failed")
    with LocalClient(("127.0.0.1", server.ports[1]), before=version_2("192.0.2.79")) as client:
        client.send(encode_request("GET", "/"))
        assert client.read().status == 400
    server.wait_for(r"refused 192\.0\.2\.79: 400 this port uses TLS")


FIELDS = (("X-Forwarded-For", "198.51.100.7"), ("X-Forwarded-Proto", "https"))


@pytest.mark.parametrize("header", ["v1", "v2"])
def test_fields_of_a_client_behind_the_proxy_are_not_believed(server: Server, header: str) -> None:
    """Although the proxy itself is trusted: it has passed on what the client has sent."""
    with server.client() as client:
        client.send(HEADERS[header])
        environ = json.loads(client.get("/environ", *FIELDS).body)
        assert environ["REMOTE_ADDR"] == "192.0.2.1"
        assert environ["wsgi.url_scheme"] == "http"
        assert environ["HTTP_X_FORWARDED_FOR"] == "198.51.100.7"


@pytest.mark.parametrize(
    ("allowed", "header"),
    [
        ("192.0.2.0/24", HEADERS["v1"]),  # a proxy behind the proxy
        ("*", HEADERS["v2"]),
        ("127.0.0.1", b"PROXY UNKNOWN\r\n"),  # the proxy itself
        ("127.0.0.1", version_2(command=0)),
    ],
)
def test_fields_are_believed_if_the_address_of_the_header_is_trusted(
    server_env: dict[str, str], allowed: str, header: bytes
) -> None:
    arguments = ("--workers", "1", "--proxy-protocol", "on", "--forwarded-allow-ips", allowed)
    with Server("tests.functional.support.applications:app", *arguments, env=server_env) as server, server.client() as client:
        client.send(header)
        environ = json.loads(client.get("/environ", *FIELDS).body)
        assert environ["REMOTE_ADDR"] == "198.51.100.7"
        assert environ["wsgi.url_scheme"] == "https"


# Who is refused


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode_request("GET", "/"), NOTHING_BEGUN),
        (encode_request("POST", "/", body=b"x" * 100_000), NOTHING_BEGUN),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", NOTHING_BEGUN),
        (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 65536\r\n" + ENVIRON, MALFORMED),
        (b"PROXY / HTTP/1.1\r\n\r\n", MALFORMED),
        (b"PROXY UNKNOWN " + b"x" * 200 + b"\r\n", "its PROXY protocol header has no CRLF within 107 bytes"),
        (version_2()[:14] + b"\xff\xff", "its PROXY protocol header has 65551 bytes, more than 16384"),
        (version_2(command=2) + ENVIRON, MALFORMED),
    ],
)
def test_without_a_valid_header_the_connection_is_closed(
    where: tuple[object, Pair | None], server: Server, data: bytes, reason: str
) -> None:
    address = where[0]
    before = server.log.count(reason)
    with LocalClient(address) as client:  # type: ignore[arg-type]
        with contextlib.suppress(ConnectionError):  # it may be closed before it has sent everything
            client.send(data)
        assert is_closed(client)
    name = "unix" if isinstance(address, str) else HERE.replace(".", r"\.")
    server.wait_for(rf"refused {name}: {reason}")
    assert wait_until(lambda: server.log.count(reason) == before + 1)


def test_a_second_header_is_no_request(server: Server) -> None:
    """A client behind the proxy cannot state another address."""
    with LocalClient(server.address, before=version_1("192.0.2.80")) as client:
        client.send(version_1("192.0.2.99") + ENVIRON)
        assert client.read().status == 400
        assert client.at_end()
    server.wait_for(r"refused 192\.0\.2\.80: 400")


def test_a_client_that_ends_within_the_header(server: Server) -> None:
    with LocalClient(server.address, before=version_1()[:20]) as client:
        client.socket.shutdown(socket.SHUT_WR)
        assert is_closed(client)
    server.wait_for(r"refused 127\.0\.0\.9: it has ended the connection within its PROXY protocol header")


def test_a_load_balancer_may_check_the_port_without_a_line_in_the_log(server: Server) -> None:
    before = server.log.count("refused ")
    for _ in range(3):
        with LocalClient(server.address) as client:
            client.socket.shutdown(socket.SHUT_WR)
            assert is_closed(client)
    with LocalClient(server.address, before=version_1()) as client:
        assert client.get("/hello").status == 200
    assert server.log.count("refused ") == before


@pytest.mark.parametrize("slow", [b"", b"PROXY", version_2()[:20]])
def test_a_slow_header_is_cut(where: tuple[object, Pair | None], server: Server, slow: bytes) -> None:
    """Also when a byte comes now and then."""
    begun = time.monotonic()
    rest = iter(b" UNKNOWN and so on until the end of time")
    with LocalClient(where[0]) as client:  # type: ignore[arg-type]
        client.send(slow)
        client.socket.settimeout(0.2)
        while True:
            try:
                assert is_closed(client)
                break
            except TimeoutError:
                assert time.monotonic() - begun < 8
                if slow == b"PROXY":
                    with contextlib.suppress(ConnectionError):  # it may have been closed just now
                        client.send(bytes([next(rest)]))
        assert time.monotonic() - begun > 1.4, (server.worker_pids(), server.log[-2000:])
    server.wait_for("its PROXY protocol header did not arrive within 1.5 s")


def test_the_time_of_the_header_is_not_that_of_the_request(server: Server) -> None:
    """Each has the whole timeout."""
    with LocalClient(server.address) as client:
        time.sleep(0.9)
        client.send(version_1())
        time.sleep(0.9)
        assert client.get("/hello").status == 200


def test_peers_that_are_not_trusted(directory: Path, server_env: dict[str, str], pair: Pair) -> None:
    """They are closed at once, whatever they send; the others are served."""
    listen = ["127.0.0.1:0", "127.0.0.1:0:ssl", f"{directory}/untrusted.sock"]
    arguments = ["--workers", "1", "--proxy-protocol", "on", "--proxy-allow-ips", "127.0.0.1", *pair.arguments]
    with Server("tests.functional.support.applications:app", *arguments, listen=listen, env=server_env) as server:
        for address in (server.address, ("127.0.0.1", server.ports[1]), f"{directory}/untrusted.sock"):
            with LocalClient(address) as client:
                assert is_closed(client)
            with LocalClient(address) as client:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it is closed already
                    client.send(version_1() + ENVIRON)
                assert is_closed(client)
        server.wait_for(r"refused 127\.0\.0\.9: it is not in proxy_allow_ips", count=4)
        server.wait_for(r"refused unix: it is not in proxy_allow_ips", count=2)
        with server.client() as client:
            client.send(version_1())
            assert address_seen(client) == ("192.0.2.1", "4711")


def test_refusals_do_not_fill_the_log(server_env: dict[str, str]) -> None:
    with Server(
        "tests.functional.support.applications:app", "--workers", "1", "--proxy-protocol", "on", env=server_env
    ) as server:
        for _ in range(2 * MOST_LINES):
            with server.client() as client:
                client.send(b"GET / HTTP/1.1\r\n\r\n")
                assert is_closed(client)
    # A line that counts others ends each period. A busy machine may need several.
    counted = [int(number) for number in re.findall(r"and (\d+) more were refused", server.log)]
    assert server.log.count(NOTHING_BEGUN) + sum(counted) == 2 * MOST_LINES
    assert server.log.count(NOTHING_BEGUN) <= MOST_LINES * (len(counted) + 1)


@pytest.mark.parametrize(("version", "other"), [("v1", "v2"), ("v2", "v1")])
def test_only_one_version(server_env: dict[str, str], version: str, other: str) -> None:
    arguments = ("--workers", "1", "--proxy-protocol", version)
    with Server("tests.functional.support.applications:app", *arguments, env=server_env) as server:
        with server.client() as client:
            client.send(HEADERS[version])
            assert address_seen(client) == ("192.0.2.1", "4711")
        with server.client() as client:
            client.send(HEADERS[other])
            assert is_closed(client)
        server.wait_for(f"its PROXY protocol header is of version {other[1]}, which is not accepted")


def test_without_the_setting_a_header_is_a_bad_request(server_env: dict[str, str]) -> None:
    with Server("tests.functional.support.applications:app", "--workers", "1", env=server_env) as server:
        for header in ("v1", "v2"):
            with server.client() as client:
                client.send(HEADERS[header] + ENVIRON)
                assert client.read().status == 400
        with server.client() as client:
            assert address_seen(client)[0] == "127.0.0.1"


# The life of a worker


def test_a_silent_peer_makes_room_for_others(server_env: dict[str, str]) -> None:
    arguments = ("--workers", "1", "--proxy-protocol", "on", "--max-connections", "4", "--header-timeout", "60")
    with Server("tests.functional.support.applications:app", *arguments, env=server_env) as server, ExitStack() as stack:
        kept = stack.enter_context(server.client())
        kept.send(version_1())
        assert kept.get("/hello").status == 200
        silent = [stack.enter_context(server.client()) for _ in range(3)]
        silent[1].send(b"PROXY ")
        begun = time.monotonic()
        assert wait_until(lambda: time.monotonic() - begun > 0.7)  # a new connection is given half a second
        for _ in range(3):
            client = stack.enter_context(server.client())
            client.send(version_1())
            assert client.get("/hello").status == 200
        assert all(map(is_closed, silent))
        assert kept.get("/hello").status == 200


def test_a_drain(server_env: dict[str, str]) -> None:
    """A connection whose header is on its way is served; a silent one does not delay the end."""
    arguments = ("--workers", "1", "--proxy-protocol", "on", "--graceful-timeout", "20")
    with Server("tests.functional.support.applications:app", *arguments, env=server_env) as server, ExitStack() as stack:
        silent, begun = (stack.enter_context(server.client()) for _ in range(2))
        begun.send(version_1()[:10])
        with server.client() as client:  # the worker has accepted those before this one
            client.send(version_1())
            assert client.get("/hello").status == 200
        before = time.monotonic()
        server.signal(signal.SIGQUIT)
        assert is_closed(silent)
        begun.send(version_1()[10:] + ENVIRON)
        assert json.loads(begun.read().body)["REMOTE_ADDR"] == "192.0.2.1"
        assert begun.at_end()
        assert server.wait() == 0
        assert time.monotonic() - before < 10


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
def test_an_embedded_server(loop: str) -> None:
    settings = json.dumps({"proxy_protocol": True, "access_log": "-"})
    server = Process([sys.executable, "-W", "error", "-m", "tests.functional.support.embedded", loop, settings])
    try:
        port = int(server.wait_for(r"ready: .*:(\d+)")[1])
        with Client(("127.0.0.1", port)) as client:
            client.send(version_1())
            assert client.get("/").body == b"ok"
        with Client(("127.0.0.1", port)) as client:
            client.send(encode_request("GET", "/"))
            assert is_closed(client)
        server.signal(signal.SIGINT)
        assert server.wait() == 0
        server.wait_for(r'192\.0\.2\.1 - - .*"GET / HTTP/1.1" 200')
        server.wait_for(f"refused 127.0.0.1: {NOTHING_BEGUN}")
    finally:
        server.kill()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--proxy-protocol", "v3"), "--proxy-protocol: 'v3' is not valid; proxy_protocol takes"),
        (("--proxy-protocol", "on", "--proxy-allow-ips", "none"), "proxy_protocol needs a trusted proxy"),
        (("--proxy-allow-ips", "10.0.0.1/8"), "write 10.0.0.0/8 for the network"),
    ],
)
def test_a_wrong_setting(arguments: tuple[str, ...], text: str) -> None:
    done = starman("--check", *arguments, "tests.functional.support.applications:app")
    assert done.returncode == 2
    assert text in done.stderr
