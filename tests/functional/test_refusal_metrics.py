"""Each reason of `starman_refusals_total` is caused by a client, and counted once."""

from __future__ import annotations

import contextlib
import shutil
from collections import Counter
from pathlib import Path

from starman.observer.metrics.metric_table import REASON_OF_COUNTER, REASON_OF_STATUS
from tests.functional.support.certificates import Pair
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.metrics import admin_url, get, samples
from tests.functional.support.wire import encode_request

APPLICATION = """\
import time

def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(2)
    environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""
ADMIN = ("--admin-listen", "127.0.0.1:0", "--workers", "1")
HOST = b"Host: a\r\n"
LARGE = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5000000\r\n\r\n" + bytes(5000000)
# What a client sends, its status, and its reason.
MESSAGES = (
    (b"GET / HTTP/1.1\r\n\r\n", 400, "malformed"),
    (b"GET / HTTP/1.1\r\nHost:", 408, "timeout"),
    (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 9000000\r\n\r\n", 413, "body_too_large"),
    (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n" + HOST + b"\r\n", 414, "target_too_long"),
    (b"GET / HTTP/1.1\r\n" + HOST + b"Expect: 200-ok\r\n\r\n", 417, "expectation_failed"),
    (b"GET / HTTP/1.1\r\n" + HOST + b"A: b\r\n" * 200 + b"\r\n", 431, "fields_too_large"),
    (b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n", 501, "not_implemented"),
    (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 5000000\r\n\r\n", 503, "no_room"),
    (b"GET / HTTP/3.0\r\n" + HOST + b"\r\n", 505, "version_not_supported"),
)


def reasons(url: str) -> Counter[str]:
    """The refusals that /metrics has, by reason."""
    _, _, text = get(url, "/metrics")
    found = {labels["reason"]: int(value) for name, labels, value in samples(text) if name == "starman_refusals_total"}
    return +Counter(found)


def test_messages(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    limits = ("--header-timeout", "1", "--max-body", "8000000", "--spool-limit", "4000000")
    with Server("site_app:app", *ADMIN, *limits, cwd=tmp_path) as server:
        url = admin_url(server)
        for data, status, reason in MESSAGES:
            with server.client() as client:
                client.send(data)
                assert client.read().status == status, reason
        expected = Counter({reason: 1 for _, _, reason in MESSAGES})
        assert wait_until(lambda: reasons(url) == expected), reasons(url)
    remaining = {"internal_error"} | set(REASON_OF_COUNTER.values())
    assert set(expected) | remaining == set(REASON_OF_STATUS.values()) | set(REASON_OF_COUNTER.values())


def test_a_temporary_directory_that_has_gone(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    place = tmp_path / "temporary"
    place.mkdir()
    with Server("site_app:app", *ADMIN, cwd=tmp_path, env={"TMPDIR": str(place)}) as server, server.client() as client:
        url = admin_url(server)
        client.send(LARGE)  # with this one, the worker chooses the directory
        assert client.read().status == 200
        shutil.rmtree(place)
        client.send(LARGE)
        assert client.read().status == 500
        assert wait_until(lambda: reasons(url) == Counter(internal_error=1)), reasons(url)


def test_a_body_that_the_application_reads_as_it_arrives(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    options = ("--stream-body", "--max-body", "1000", "--header-timeout", "1")
    with Server("site_app:app", *ADMIN, *options, cwd=tmp_path) as server:
        url = admin_url(server)
        start = b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        for data, status in ((b"7d0\r\n" + b"a" * 2000 + b"\r\n", 413), (b"x\r\n", 400), (b"5\r\nab", 408)):
            with server.client() as client:
                client.send(start + data)
                assert client.read().status == status
        expected = Counter(body_too_large=1, malformed=1, timeout=1)
        assert wait_until(lambda: reasons(url) == expected), reasons(url)


def test_a_busy_server(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    options = ("--threads", "1", "--max-queue", "1", "--queue-timeout", "0.5")
    with Server("site_app:app", *ADMIN, *options, cwd=tmp_path) as server, contextlib.ExitStack() as stack:
        url = admin_url(server)
        clients = [stack.enter_context(server.client()) for _ in range(4)]
        for client in clients:
            client.send(encode_request("GET", "/slow"))
        assert sorted(client.read().status for client in clients) == [200, 503, 503, 503]
        assert wait_until(lambda: reasons(url) == Counter(queue_full=2, queue_timeout=1)), reasons(url)


def test_connections(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    tls = Pair(tmp_path, "server").arguments
    with Server("site_app:app", *ADMIN, *tls, listen="127.0.0.1:0:ssl", cwd=tmp_path) as server, server.client() as client:
        url = admin_url(server)
        client.send(b"\x16\x03\x01\x00\x05hello")  # the record of a handshake, which has none in it
        client.read_to_end()
        assert wait_until(lambda: reasons(url) == Counter(tls_handshake=1)), reasons(url)
    with Server("site_app:app", *ADMIN, "--proxy-protocol", "v1", cwd=tmp_path) as server, server.client() as client:
        url = admin_url(server)
        client.send(encode_request("GET", "/"))
        with contextlib.suppress(OSError):
            assert client.socket.recv(100) == b""
        assert wait_until(lambda: reasons(url) == Counter(proxy_protocol=1)), reasons(url)
