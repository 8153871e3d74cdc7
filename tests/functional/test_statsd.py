"""`--statsd-host`: a real receiver of UDP, or of a UNIX socket, gets gunicorn's metrics."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.harness import Server, wait_until
from tests.functional.test_admin import observer_of

APPLICATION = """\
def app(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        raise ValueError("as wanted")
    start_response("200 OK", [("Content-Length", "4")])
    return [b"fine"]
"""
_LINE = re.compile(r"(?P<name>[\w.]+):(?P<value>[\d.]+)\|(?P<kind>c|g|ms|h)(?:\|@(?P<rate>[\d.e-]+))?(?P<tags>\|#.*)?")


class Receiver:
    """Sums what it receives."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setblocking(False)
        self.counters: Counter[str] = Counter()
        self.durations = 0.0
        self.backlogs: set[str] = set()
        self.gauges: dict[str, float] = {}
        self.tags: set[str] = set()

    def receive(self) -> None:
        while True:
            try:
                packet = self.socket.recv(65536)
            except BlockingIOError:
                return
            for line in packet.decode().split("\n"):
                match = _LINE.fullmatch(line)
                assert match is not None, line
                self.tags.add(match["tags"] or "")
                if match["kind"] == "c":
                    self.counters[match["name"]] += int(match["value"])
                elif match["kind"] == "g":
                    self.gauges[match["name"]] = float(match["value"])
                elif match["kind"] == "h":
                    assert match["name"] == "gunicorn.backlog"
                    self.backlogs.add(match["value"])
                else:
                    assert match["name"].endswith("gunicorn.request.duration")
                    self.durations += 1 / float(match["rate"] or 1)

    def has(self, name: str, count: int) -> bool:
        self.receive()
        return self.counters[name] == count


@pytest.fixture(params=["udp", "unix"])
def receiver(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, Receiver]]:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    if request.param == "udp":
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            yield f"127.0.0.1:{sock.getsockname()[1]}", Receiver(sock)
    else:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "statsd"))
            yield f"unix:{tmp_path / 'statsd'}", Receiver(sock)


def test_a_receiver_gets_what_clients_have_seen(receiver: tuple[str, Receiver], tmp_path: Path) -> None:
    address, received = receiver
    options = ("--statsd-host", address, "--statsd-prefix", "shop.", "--dogstatsd-tags", "env:test,web")
    with Server("site_app:app", *options, "--workers", "2", cwd=tmp_path) as server:
        for number in range(30):
            with server.client() as client:
                assert client.get("/fail" if number % 10 == 0 else "/").status == (500 if number % 10 == 0 else 200)
        assert wait_until(lambda: received.has("shop.gunicorn.requests", 30))
        assert received.has("shop.gunicorn.request.status.200", 27)
        assert received.has("shop.gunicorn.request.status.500", 3)
        assert received.has("shop.gunicorn.log.exception", 3)
        assert received.counters["shop.gunicorn.log.error"] == 0, "as in gunicorn"
        assert received.backlogs == set(), "only if it is asked for"
        assert round(received.durations) == 30
        assert received.gauges == {"shop.gunicorn.workers": 2.0}
        assert received.tags == {"|#env:test,web"}
        # What was counted last is sent, although the workers end.
        with server.client() as client:
            assert client.get("/").status == 200
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        assert wait_until(lambda: received.has("shop.gunicorn.requests", 31))


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not tell")
def test_the_backlog_is_sent_if_it_is_asked_for(receiver: tuple[str, Receiver], tmp_path: Path) -> None:
    address, received = receiver
    with Server("site_app:app", "--statsd-host", address, "--enable-backlog-metric", "--workers", "1", cwd=tmp_path) as server:
        with server.client() as client:
            assert client.get("/").status == 200
        assert wait_until(lambda: received.has("gunicorn.requests", 1) and received.backlogs == {"0"})
        (worker,) = server.worker_pids()
        os.kill(worker, signal.SIGSTOP)
        try:
            with contextlib.ExitStack() as stack:
                for _ in range(3):
                    stack.enter_context(server.client())
                assert wait_until(lambda: received.has("gunicorn.requests", 1) and "3" in received.backlogs)
        finally:
            os.kill(worker, signal.SIGCONT)


def test_the_settings_file_is_used(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        received = Receiver(sock)
        configuration = f"statsd_host = '127.0.0.1:{sock.getsockname()[1]}'\nstatsd_prefix = 'old'\ndogstatsd_tags = 'a:b'\n"
        (tmp_path / "starman.toml").write_text(configuration)
        with Server("site_app:app", cwd=tmp_path) as server:
            with server.client() as client:
                assert client.get("/").status == 200
            assert wait_until(lambda: received.has("old.gunicorn.requests", 1))
        assert received.tags == {"|#a:b"}


def test_a_name_that_does_not_resolve_is_logged_once_and_serves(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    with Server("site_app:app", "--statsd-host", f"unix:{tmp_path}/absent", cwd=tmp_path) as server:
        server.wait_for("statsd-host: cannot send metrics to unix:.*/absent, will try again: No such file")
        with server.client() as client:
            assert client.get("/").status == 200
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
            sock.bind(str(tmp_path / "absent"))
            server.wait_for("metrics are sent to unix:.*/absent now", 60)
            received = Receiver(sock)
            assert wait_until(lambda: received.has("gunicorn.requests", 1))
    assert server.log.count("cannot send metrics") == 1


def test_an_observer_that_dies_soon_has_a_successor_that_sends_nothing_twice(
    receiver: tuple[str, Receiver], tmp_path: Path
) -> None:
    address, received = receiver
    with Server("site_app:app", "--statsd-host", address, "--workers", "1", cwd=tmp_path) as server:
        for number in range(1, 4):
            for _ in range(5):
                with server.client() as client:
                    assert client.get("/fail").status == 500
            assert wait_until(lambda sent=5 * number: received.has("gunicorn.requests", sent))  # type: ignore[misc]
            os.kill(observer_of(server), signal.SIGKILL)
            server.wait_for("the observer .*it is started again", count=number)
            received.gauges.clear()
            # The successor sends its first metrics.
            assert wait_until(lambda: received.has("gunicorn.requests", -1) or bool(received.gauges))
            assert received.counters["gunicorn.requests"] == 5 * number
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over", 60)
        received.receive()
        received.gauges.clear()
        assert wait_until(lambda: received.has("gunicorn.requests", -1) or bool(received.gauges))
        assert received.counters["gunicorn.requests"] == 15
