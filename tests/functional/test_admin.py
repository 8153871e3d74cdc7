"""`--admin-listen`: health, readiness, status and metrics of a running server, at its events too."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.functional.support.harness import NotReadyError, Server, free_ports, wait_until
from tests.functional.support.metrics import REQUESTS, admin_url, get, samples, total
from tests.functional.support.wire import NoResponseError

APPLICATION = """\
import threading, time

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/slow":
        time.sleep(2)
    if path == "/fail":
        raise ValueError("as wanted")
    body = environ["wsgi.input"].read() if environ["REQUEST_METHOD"] == "POST" else b"fine"
    start_response("404 Not Found" if path == "/missing" else "200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""
ADMIN = ("--admin-listen", "127.0.0.1:0")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    return tmp_path


def observer_of(server: Server) -> int:
    (pid,) = [pid for pid in server.session_pids() if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"starman observer")]
    return pid


def test_the_pages_and_nothing_else(site: Path) -> None:
    with Server("site_app:app", *ADMIN, "--admin-token", "s3cret", cwd=site) as server:
        url = admin_url(server)
        assert get(url, "/healthz")[::2] == (200, "ok\n")
        assert get(url, "/readyz")[::2] == (200, "ready\n")
        assert get(url, "/readyz", "HEAD")[::2] == (200, "")
        assert get(url, "/index.html")[0] == get(url, "/slow")[0] == 404
        assert get(url, "/healthz", "POST")[0] == 405
        assert get(url, "/metrics")[0] == get(url, "/status")[0] == 401
        token = {"Authorization": "Bearer s3cret"}
        status = json.loads(get(url, "/status", fields=token)[2])
        assert (status["pid"], status["phase"]) == (server.pid, "running")
        code, fields, text = get(url, "/metrics", fields={**token, "Accept": "application/openmetrics-text"})
        assert (code, fields["Content-Type"]) == (200, "application/openmetrics-text; version=1.0.0; charset=utf-8")
        assert text.endswith("# EOF\n")
        assert ("starman_ready", {}, 1.0) in samples(text)
        with server.client() as client:
            assert client.get("/healthz").body == b"fine", "the service itself has none of these pages"


def test_not_ready_while_a_request_is_drained(site: Path) -> None:
    with Server("site_app:app", *ADMIN, "--workers", "1", cwd=site) as server, server.client() as client:
        url = admin_url(server)
        client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert wait_until(lambda: total(url, "http_server_active_requests") == 1)
        server.signal(signal.SIGTERM)
        server.wait_for("stopping")
        assert get(url, "/readyz")[::2] == (503, "stopping\n")
        assert get(url, "/healthz")[0] == 200
        assert client.read().body == b"fine"
        assert server.wait() == 0


def test_restarts_and_a_killed_observer_keep_the_counts_and_the_port(site: Path) -> None:
    with Server("site_app:app", *ADMIN, "--workers", "2", cwd=site) as server:
        url = admin_url(server)
        for _ in range(20):
            with server.client() as client:
                assert client.get("/").body == b"fine"
        assert wait_until(lambda: total(url, REQUESTS) == 20)
        before = set(server.worker_pids())
        server.signal(signal.SIGHUP)
        assert wait_until(lambda: len(server.worker_pids()) == 2 and not before & set(server.worker_pids()))
        assert total(url, REQUESTS) == 20
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        server.wait_for("was killed by SIGKILL|killed by signal")
        with server.client() as client:
            assert client.get("/missing").status == 404
        assert wait_until(lambda: total(url, REQUESTS, http_response_status_code="404") == 1)
        os.kill(observer_of(server), signal.SIGKILL)
        server.wait_for("the observer .*it is started again")
        assert get(url, "/readyz")[0] == 200
        assert total(url, REQUESTS) == 21
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over")
        assert wait_until(lambda: len(server.worker_pids()) == 2)
        assert get(url, "/healthz")[0] == 200
        assert total(url, REQUESTS) == 21


def test_requests_that_are_refused_because_the_server_is_busy_have_their_reasons(site: Path) -> None:
    options = ("--workers", "1", "--threads", "1", "--max-queue", "1")
    with Server("site_app:app", *ADMIN, *options, cwd=site) as server, contextlib.ExitStack() as stack:
        url = admin_url(server)
        clients = [stack.enter_context(server.client()) for _ in range(4)]
        for client in clients:
            client.send(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        statuses = Counter(client.read().status for client in clients)
        assert statuses[503] >= 1
        assert wait_until(lambda: total(url, "starman_refusals_total", reason="queue_full") == statuses[503])
        assert wait_until(lambda: total(url, REQUESTS) == 4)
        assert total(url, REQUESTS, http_response_status_code="503") == statuses[503]


def test_a_taken_address_fails_the_start_with_one_line(site: Path) -> None:
    (port,) = free_ports()
    with socket.create_server(("127.0.0.1", port)), pytest.raises(NotReadyError) as caught:
        Server("site_app:app", "--admin-listen", f"127.0.0.1:{port}", cwd=site)
    assert re.search(rf"^starman: .*127\.0\.0\.1:{port}.*already in use", caught.value.log, re.MULTILINE)
    assert "Traceback" not in caught.value.log
    with pytest.raises(NotReadyError) as taken:
        Server("site_app:app", "--listen", f"127.0.0.1:{port}", "--admin-listen", f"127.0.0.1:{port}", cwd=site)
    assert taken.value.status == caught.value.status


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--admin-listen", "nowhere"], "admin-listen"),
        (["--admin-listen", "127.0.0.1:0:ssl"], "needs a certificate"),
        (["--admin-listen", "127.0.0.1:0", "--admin-token", "@absent"], "cannot read absent: No such file"),
        (["--statsd-host", "::1"], "an IPv6 address needs brackets"),
    ],
)
def test_a_wrong_value_fails_the_start(site: Path, options: list[str], reason: str) -> None:
    with pytest.raises(NotReadyError) as caught:
        Server("site_app:app", *options, cwd=site)
    assert reason in caught.value.log
    assert "Traceback" not in caught.value.log


def test_a_token_comes_from_a_file_and_the_port_may_be_a_unix_socket(site: Path) -> None:
    (site / "token").write_text("from-a-file\n")
    path = str(site / "admin.sock")
    with Server("site_app:app", "--admin-listen", path, "--admin-token", "@token", cwd=site):
        for token, expected in ((b"from-a-file", b"200"), (b"other", b"401")):
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(20)
                client.connect(path)
                client.sendall(b"GET /metrics HTTP/1.0\r\nAuthorization: Bearer " + token + b"\r\n\r\n")
                assert client.recv(12) == b"HTTP/1.1 " + expected
    assert not os.path.exists(path)


def test_metrics_agree_with_the_count_of_clients(site: Path) -> None:
    """Under keep-alive, pipelining, HEAD, errors and closed connections, across a restart and the death of an idle
    worker. A larger number by METRICS_REQUESTS."""
    rounds = int(os.environ.get("METRICS_REQUESTS", "2000")) // 20
    with Server("site_app:app", *ADMIN, "--workers", "2", "--threads", "2", cwd=site) as server:
        url = admin_url(server)
        counts = [Counter[tuple[str, str, str]](), Counter[tuple[str, str, str]]()]
        failures: list[BaseException] = []

        def run(count: Counter[tuple[str, str, str]]) -> None:
            try:
                for _ in range(rounds):
                    send_mixed_requests(server, count)
            except BaseException as error:
                failures.append(error)

        clients = [threading.Thread(target=run, args=(count,)) for count in counts]
        for thread in clients:
            thread.start()
        before = set(server.worker_pids())
        server.signal(signal.SIGHUP)
        for thread in clients:
            thread.join()
        assert failures == []
        assert wait_until(lambda: len(server.worker_pids()) == 2 and not before & set(server.worker_pids()))
        expected = counts[0] + counts[1]
        refused = expected.pop(("-", "400", "-"))

        def agree() -> bool:
            _, _, text = get(url, "/metrics")
            found: Counter[tuple[str, str, str]] = Counter()
            for name, labels, value in samples(text):
                if name == REQUESTS:
                    key = ("http_request_method", "http_response_status_code", "network_protocol_version")
                    found[labels[key[0]], labels[key[1]], labels[key[2]]] += int(value)
            return found == expected and ("starman_refusals_total", {"reason": "malformed"}, refused) in samples(text)

        assert wait_until(agree, 10), (expected, get(url, "/metrics")[2])
        assert total(url, "starman_request_body_bytes_total") == 7 * expected["POST", "200", "1.0"]
        # An idle worker that is killed takes nothing along.
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        server.wait_for("SIGKILL")
        assert agree()


def send_mixed_requests(server: Server, count: Counter[tuple[str, str, str]]) -> None:
    """Send ten requests. Count those that are answered: a worker that drains ends a kept connection."""
    get_line = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with server.client() as client, contextlib.suppress(NoResponseError, OSError):
        for data, methods, status in (
            (get_line, ["GET"], "200"),
            (get_line * 3, ["GET"] * 3, "200"),
            (b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", ["HEAD"], "200"),
            (b"GET /missing HTTP/1.1\r\nHost: a\r\n\r\n", ["GET"], "404"),
            (b"GET /fail HTTP/1.1\r\nHost: a\r\n\r\n", ["GET"], "500"),
        ):
            client.send(data)
            for method in methods:
                assert str(client.read(method).status) == status
                count[method, status, "1.1"] += 1
    for data, method, status, version in (
        (b"POST / HTTP/1.0\r\nContent-Length: 7\r\n\r\nseven b", "POST", "200", "1.0"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", "GET", "200", "1.1"),
        (b"GET / HTTP/1.1\r\n\r\n", "-", "400", "-"),
    ):
        with server.client() as client:
            client.send(data)
            assert str(client.read().status) == status
            count[method, status, version] += 1
