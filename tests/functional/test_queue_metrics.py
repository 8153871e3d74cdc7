"""`starman_queue_duration_seconds` has each request that is counted, however it ends."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter
from pathlib import Path

import pytest

from tests.functional.support.harness import Server, wait_until
from tests.functional.support.metrics import REQUESTS, admin_url, get, samples, total
from tests.functional.support.wire import TruncatedError, encode_request

APPLICATION = """\
import time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/begun":
        start_response("200 OK", [("Content-Length", "9")])(b"begun")
    time.sleep({"/slow": 1, "/begun": 2, "/hang": 2}.get(path, 0))
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
ADMIN = ("--admin-listen", "127.0.0.1:0", "--workers", "1")
WAITS = "starman_queue_duration_seconds_count"
WAITED = "starman_queue_duration_seconds_sum"


def requests(url: str) -> Counter[str]:
    """The requests that /metrics has, by status."""
    found: Counter[str] = Counter()
    for name, labels, value in samples(get(url, "/metrics")[2]):
        if name == REQUESTS:
            found[labels["http_response_status_code"]] += int(value)
    return found


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    return tmp_path


def test_requests_that_end_by_their_deadlines(site: Path) -> None:
    options = ("--threads", "1", "--request-timeout", "0.3", "--lost-threads", "9")
    with Server("site_app:app", *ADMIN, *options, cwd=site) as server:
        url = admin_url(server)
        for _ in range(3):
            with server.client() as client:
                client.send(b"POST /hang HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc")
                assert client.read().status == 504
        with server.client() as client, pytest.raises(TruncatedError):
            client.get("/begun")
        assert wait_until(lambda: requests(url) == Counter({"504": 4})), requests(url)
        assert total(url, WAITS) == 4
        assert total(url, "starman_request_body_bytes_total") == 9
        assert total(url, "starman_response_body_bytes_total") == 3 * len(b"the request took too long\n") + len(b"begun")


def test_requests_that_are_refused(site: Path) -> None:
    with Server("site_app:app", *ADMIN, "--threads", "1", "--queue-timeout", "0.4", cwd=site) as server:
        url = admin_url(server)
        with server.client() as busy, server.client() as late:
            for client in (busy, late):
                client.send(encode_request("GET", "/slow"))
            assert sorted([late.read().status, busy.read().status]) == [200, 503]
        assert wait_until(lambda: requests(url) == Counter({"200": 1, "503": 1})), requests(url)
        assert total(url, WAITS) == 2
        assert total(url, WAITED) >= 0.4


def test_clients_that_leave_while_they_wait(site: Path) -> None:
    with Server("site_app:app", *ADMIN, "--threads", "1", cwd=site) as server:
        url = admin_url(server)
        with server.client() as busy:
            with server.client() as gone:
                for client in (busy, gone):
                    client.send(encode_request("GET", "/hang"))
                assert wait_until(lambda: total(url, "http_server_active_requests") == 2)
                gone.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            assert busy.read().status == 200
        assert wait_until(lambda: requests(url) == Counter({"200": 1, "499": 1})), requests(url)
        assert total(url, WAITS) == 2


def test_without_threads_requests_wait_for_the_loop(site: Path) -> None:
    with Server("site_app:app", *ADMIN, "--threads", "0", cwd=site) as server, contextlib.ExitStack() as stack:
        url = admin_url(server)
        clients = [stack.enter_context(server.client()) for _ in range(3)]
        for client in clients:
            client.send(encode_request("GET", "/slow"))
        assert [client.read().status for client in clients] == [200, 200, 200]
        assert wait_until(lambda: requests(url) == Counter({"200": 3})), requests(url)
        assert total(url, WAITS) == 3
