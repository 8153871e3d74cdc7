"""The page of `--admin-listen` in a real Chromium: at rest, under load, with a stuck request, with many workers."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.browser import Browser
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.metrics import admin_url, get

APPLICATION = """\
import threading, time

gate = threading.Event()

def wait_at_the_gate():
    gate.wait(60)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/stuck"):
        wait_at_the_gate()
    if path == "/open":
        gate.set()
    if path == "/fail":
        raise ValueError("as wanted")
    start_response("200 OK", [("Content-Length", "4")])
    return [b"fine"]
"""
ADMIN = ("--admin-listen", "127.0.0.1:0")
LIVE = "document.getElementById('link').textContent === 'live'"
NO_SIDEWAYS = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    return tmp_path


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with Browser(tmp_path / "browser") as browser:
        yield browser
        assert browser.errors == []


@contextlib.contextmanager
def stuck(server: Server, path: str = "/stuck") -> Iterator[None]:
    """A request that stays in its thread."""
    with server.client() as client:
        client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        try:
            yield
        finally:
            with server.client() as other:
                other.get("/open")


def test_at_rest_in_light_and_dark_and_on_a_phone(site: Path, browser: Browser) -> None:
    with Server("site_app:app", *ADMIN, "--workers", "2", "--threads", "3", cwd=site) as server:
        url = admin_url(server)
        backs = []
        for width, dark in ((1280, False), (1280, True), (375, False)):
            browser.open(url, width=width, dark=dark)
            browser.wait_for(LIVE)
            assert browser.evaluate(NO_SIDEWAYS)
            assert browser.evaluate("document.querySelectorAll('#workers tbody tr').length") == 2
            assert browser.evaluate("document.querySelectorAll('.cells .cell[data-age=idle]').length") == 6
            assert not browser.evaluate("document.getElementById('none').hidden")
            backs.append(browser.evaluate("getComputedStyle(document.body).backgroundColor"))
            assert browser.screenshot().startswith(b"\x89PNG")
        assert backs[0] == backs[2] != backs[1]
        names = browser.accessibility_tree()
        assert ("rowheader", "1") in names
        assert ("table", "Workers") in names
        assert any(role == "image" and name.startswith("Requests per second: now 0/s") for role, name in names)


def test_load_and_errors_and_restarts_are_on_the_plots(site: Path, browser: Browser) -> None:
    with Server("site_app:app", *ADMIN, "--workers", "2", cwd=site) as server:
        browser.open(admin_url(server))
        browser.wait_for(LIVE)
        ended = threading.Event()

        def load() -> None:
            while not ended.wait(0.01):
                with server.client() as client:
                    client.get("/")
                with server.client() as client:
                    client.get("/fail")

        thread = threading.Thread(target=load)
        thread.start()
        try:
            browser.wait_for("points.some((each) => each.rate > 2 && each.errors > 1 && each.errors < each.rate && each.p50 > 0)")
            assert browser.evaluate("points.every((each) => each.p50 === null || each.p50 <= each.p99)")
            browser.wait_for("document.querySelectorAll('#plots path').length >= 7")
            before = server.worker_pids()
            server.signal(signal.SIGHUP)
            browser.wait_for("document.querySelector('line[data-kind=restart]') !== null")
            assert wait_until(lambda: len(server.worker_pids()) == 2 and not set(before) & set(server.worker_pids()))
        finally:
            ended.set()
            thread.join()
        os.kill(server.worker_pids()[0], signal.SIGKILL)
        browser.wait_for("document.querySelector('line[data-kind=lost]') !== null")
        text = browser.evaluate("document.getElementById('events').innerText")
        assert re.search(r"X: worker \d \(\d+\) was killed by SIGKILL", text)
        assert text.index("X: worker") < text.index("R: restart: generation 2") < text.index("S: the server has started")
        # A page that is opened later has the same history.
        browser.open(admin_url(server))
        browser.wait_for(LIVE)
        assert browser.evaluate("marks.map((each) => each.kind).join()") == "start,restart,lost"
        assert browser.evaluate("points.some((each) => each.errors > 1)")


def test_a_stuck_request_is_seen_and_opens_its_stack_by_keyboard(site: Path, browser: Browser) -> None:
    path = "/stuck/<img/src=x/onerror=alert(1)>"
    with Server("site_app:app", *ADMIN, "--workers", "1", "--threads", "2", cwd=site) as server, stuck(server, path):
        browser.open(admin_url(server), width=375)
        browser.wait_for("document.querySelector('.cells .cell[data-age=slow]') !== null")
        assert browser.evaluate("document.querySelector('#requests td:nth-child(3)').textContent") == f"GET {path}"
        assert browser.evaluate("document.images.length") == 0
        assert browser.evaluate(NO_SIDEWAYS)
        label = browser.evaluate("document.querySelector('.cells .cell[data-age=slow]').getAttribute('aria-label')")
        assert re.fullmatch(rf"Worker 1, thread \d: GET {re.escape(path)}, \d\.\d s, show its stack", label)
        for _ in range(12):
            browser.press("Tab", 9)
            if browser.evaluate("document.activeElement.matches('.cells .cell[data-age=slow]')"):
                break
        assert browser.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
        browser.press("Enter", 13)
        stack = browser.wait_for("document.querySelector('dialog[open] pre.chosen')?.textContent")
        assert "in wait_at_the_gate" in stack
        assert stack.index("in wait_at_the_gate") < stack.index("in app")
        assert f"GET {path}" in browser.evaluate("document.getElementById('stack-title').textContent")
        assert browser.evaluate(NO_SIDEWAYS)
        browser.press("Escape", 27)
        browser.wait_for("!document.getElementById('stack').open")
        # The cell keeps the focus through the updates.
        assert browser.evaluate("document.activeElement.matches('.cells .cell')")
        browser.wait_for("document.querySelector('.cells .cell[data-age=old]') !== null")
        with server.client() as client:
            assert client.get("/open").status == 200
        browser.wait_for("document.querySelectorAll('.cells .cell[data-age=idle]').length === 2")
        assert not browser.evaluate("document.getElementById('none').hidden")


def test_slow_requests_and_lost_workers_stay_on_the_page(site: Path, browser: Browser) -> None:
    path = "/stuck/<img/src=x/onerror=alert(1)>"
    options = ("--workers", "1", "--threads", "2", "--slow-request", "1", "--request-timeout", "2.5", "--lost-threads", "9")
    with Server("site_app:app", *ADMIN, *options, cwd=site) as server:
        browser.open(admin_url(server), width=375)
        browser.wait_for(LIVE)
        none = [not browser.evaluate(f"document.getElementById('no-{name}').hidden") for name in ("slow", "lost")]
        assert none == [True, True]
        with server.client() as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
            assert client.read().status == 504
        browser.wait_for("document.querySelectorAll('#slow li').length === 2")
        (pid,) = server.worker_pids()
        first, second = (
            browser.evaluate(f"document.querySelectorAll('#slow summary')[{number}].textContent") for number in (0, 1)
        )
        assert re.fullmatch(rf".* ago, worker 1 \({pid}\) GET {re.escape(path)} had run for \d\.\d s and timed out", first)
        assert re.fullmatch(rf".* ago, worker 1 \({pid}\) GET {re.escape(path)} had run for \d\.\d s", second)
        # Opened by keyboard, it stays open and keeps the focus through the updates.
        browser.evaluate("document.querySelector('#slow summary').focus()")
        browser.press("Enter", 13)
        browser.wait_for("document.querySelector('#slow details').open")
        seen = browser.evaluate("points.length")
        browser.wait_for(f"points.length > {seen} + 1")
        assert browser.evaluate("document.querySelector('#slow details').open")
        assert browser.evaluate("document.activeElement.matches('#slow summary')")
        assert "in wait_at_the_gate" in browser.evaluate("document.querySelector('#slow pre').innerText")
        os.kill(pid, signal.SIGKILL)
        lost = browser.wait_for("document.querySelector('#lost li')?.textContent")
        assert re.match(rf".* ago, worker 1 \({pid}\) was killed by SIGKILL", lost)
        assert browser.evaluate("document.images.length") == 0
        assert browser.evaluate(NO_SIDEWAYS)


def test_an_upgrade_is_a_mark(site: Path, browser: Browser) -> None:
    with Server("site_app:app", *ADMIN, "--workers", "1", cwd=site) as server:
        browser.open(admin_url(server))
        browser.wait_for(LIVE)
        server.signal(signal.SIGUSR2)
        server.wait_for("has taken over", 60)
        browser.wait_for("document.querySelector('line[data-kind=upgrade]') !== null")
        browser.wait_for(LIVE)
        assert "U: upgrade: starman " in browser.evaluate("document.getElementById('events').innerText")
        # It stays one mark, also on a page that is opened later.
        for _ in range(2):
            seen = browser.evaluate("points.length")
            browser.wait_for(f"points.length > {seen} + 2")
            kinds = browser.evaluate("marks.map((each) => each.kind).join()").split(",")
            assert kinds.count("upgrade") == kinds.count("start") == 1
            browser.errors.clear()  # of the time without an observer
            browser.open(admin_url(server))
            browser.wait_for(LIVE)


def test_many_workers(site: Path, browser: Browser) -> None:
    with Server("site_app:app", *ADMIN, "--workers", "64", "--threads", "4", "--preload-app", cwd=site) as server:
        browser.open(admin_url(server))
        browser.wait_for("document.querySelectorAll('#workers tbody tr').length === 64", 40)
        browser.wait_for("status.workers_ready === 64", 40)
        assert browser.evaluate("document.querySelectorAll('.cells .cell').length") == 256
        before = browser.evaluate("points.length")
        browser.wait_for(f"points.length > {before} + 1")
        assert browser.evaluate("(() => { const begun = performance.now(); show(); return performance.now() - begun; })()") < 500


def test_the_token_moves_from_the_address_to_the_tab(site: Path, browser: Browser) -> None:
    with Server("site_app:app", *ADMIN, "--admin-token", "s3cret", "--workers", "1", cwd=site) as server:
        url = admin_url(server)
        browser.open(f"{url}/?token=s3cret")
        browser.wait_for(LIVE)
        assert browser.evaluate("location.href") == f"{url}/"
        browser.open(url)
        browser.wait_for(LIVE)
        browser.evaluate("sessionStorage.clear()")
        browser.open(url)
        browser.wait_for("document.activeElement.id === 'token'")
        assert browser.evaluate("document.getElementById('main').hidden")
        browser.evaluate("document.getElementById('token').value = 'wrong'")
        browser.press("Enter", 13)
        browser.wait_for("document.getElementById('link').textContent === 'the token is wrong'")
        browser.evaluate("document.getElementById('token').value = 's3cret'")
        browser.press("Enter", 13)
        browser.wait_for(LIVE)
        # The refusals without a token.
        assert all("401" in error for error in browser.errors)
        assert len(browser.errors) == 2
        browser.errors.clear()


def test_a_restarted_observer_and_a_stopped_server(site: Path, browser: Browser) -> None:
    with Server("site_app:app", *ADMIN, "--workers", "1", cwd=site) as server:
        url = admin_url(server)
        browser.open(url)
        browser.wait_for(LIVE)
        (observer,) = [
            pid for pid in server.session_pids() if Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"starman observer")
        ]
        known = browser.evaluate("points[0].at")
        os.kill(observer, signal.SIGKILL)
        browser.wait_for("document.getElementById('link').className === 'bad'")
        browser.wait_for(LIVE)
        assert browser.evaluate("points[0].at") == known, "what the page has seen before goes on"
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
        browser.wait_for("document.getElementById('link').className === 'bad'")
        browser.errors.clear()


def open_stream(url: str) -> socket.socket:
    """A viewer, which has read the head of the stream."""
    host, port = url.removeprefix("http://").split(":")
    viewer = socket.create_connection((host, int(port)), 20)
    viewer.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return viewer


def read_until(viewer: socket.socket, wanted: bytes) -> bytes:
    """Read a stream until `wanted` has come."""
    found = b""
    while wanted not in found:
        data = viewer.recv(65536)
        assert data, found
        found += data
    return found


def test_viewers_are_limited_and_a_stuck_one_holds_up_nothing(site: Path) -> None:
    with Server("site_app:app", *ADMIN, "--workers", "1", cwd=site) as server, contextlib.ExitStack() as stack:
        url = admin_url(server)
        viewers = [stack.enter_context(open_stream(url)) for _ in range(8)]
        for viewer in viewers:
            read_until(viewer, b"event: history\ndata: ")
        code, fields, text = get(url, "/events")
        assert (code, fields["Retry-After"], text) == (503, "5", "too many viewers at a time\n")
        # None of the other viewers reads; all pages still answer, and the first viewer gets each event.
        assert get(url, "/healthz")[0] == get(url, "/metrics")[0] == get(url, "/")[0] == 200
        begun = time.monotonic()
        for _ in range(3):
            event = read_until(viewers[0], b"event: status\ndata: ")
        assert b"event: status" in event
        assert time.monotonic() - begun < 10
        viewers.pop().close()
        assert wait_until(lambda: b" 200 " in probe(url))


def probe(url: str) -> bytes:
    """The first bytes of a stream of events."""
    with open_stream(url) as viewer:
        return viewer.recv(20)


def test_the_page_and_its_paths_without_a_browser(site: Path) -> None:
    with Server("site_app:app", *ADMIN, "--admin-token", "s3cret", "--workers", "1", cwd=site) as server:
        url = admin_url(server)
        code, fields, text = get(url, "/")
        assert (code, fields["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert fields["Content-Security-Policy"].startswith("default-src 'none'; script-src 'sha256-")
        assert "unsafe" not in fields["Content-Security-Policy"]
        assert not re.search(r"(?:src|href)=\"(?!data:|status)|@import|url\(", text), "no outside assets"
        token = {"Authorization": "Bearer s3cret"}
        assert get(url, "/events")[0] == get(url, "/stacks")[0] == 401
        assert get(url, "/stacks?pid=1", fields=token)[0] == 404
        assert get(url, "/events", fields={**token, "Sec-Fetch-Site": "cross-site"})[0] == 403
        (pid,) = server.worker_pids()
        with stuck(server):
            assert wait_until(lambda: len(json.loads(get(url, "/status", fields=token)[2])["workers"][0]["requests"]) == 1)
            found = json.loads(get(url, f"/stacks?pid={pid}", fields=token)[2])
            assert found["pid"] == pid
            assert found["threads"][0]["request"]["request"] == "GET /stuck"
            assert "wait_at_the_gate" in [frame["function"] for frame in found["threads"][0]["frames"]]
