"""starman.serving.executors.shedding: requests that wait too long, or too many that wait, are refused by the loop."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from starman.config.settings import Settings
from starman.serving import load_shedding as load_shedding_module
from starman.serving.load_shedding import QUEUE_IS_FULL, WAITED_TOO_LONG
from tests.functional.support.harness import wait_until
from tests.functional.support.wire import encode_request
from tests.unit.serving.applications import Gate, Start, echo
from tests.unit.serving.executors.test_executor import Stuck
from tests.unit.serving.running import SECONDS, Running

pytestmark = pytest.mark.usefixtures("fast")

Capture = pytest.CaptureFixture[str]
kinds = pytest.mark.parametrize("use_uvloop", [True, False], ids=["uvloop", "asyncio"])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "access.log"


def logged(log: Path, text: str) -> bool:
    return wait_until(lambda: text in log.read_text(), SECONDS)


def block_loop(running: Running) -> tuple[threading.Event, threading.Event]:
    """Stop the loop, so that what arrives meanwhile is read in one poll. The second event lets it go on."""
    blocked, opened = threading.Event(), threading.Event()
    running.call(blocked.set)
    running.call(opened.wait, SECONDS)
    return blocked, opened


@kinds
def test_a_late_request_is_refused_while_all_threads_are_stuck(use_uvloop: bool, log: Path, capfd: Capture) -> None:
    with Stuck(log, use_uvloop=use_uvloop, queue_timeout=0.2) as stuck:
        began = time.monotonic()
        client = stuck.sent(encode_request("POST", "/late", body=b"x" * 5000))
        response = client.read()
        waited = time.monotonic() - began
        assert (response.status, response.get("Retry-After"), response.get("Connection")) == (503, "5", "close")
        assert response.body == b"the server is busy: this request has waited too long\n"
        assert client.at_end()
        assert 0.19 <= waited < SECONDS / 2
        assert stuck.queued() == 0
        assert logged(log, '"POST /late HTTP/1.1" 503 ')
    assert stuck.called == ["/gate"]
    said = capfd.readouterr().err
    assert said.count("refusing requests that have waited 0.2 s for a thread (503, queue_timeout)") == 1
    assert said.count("no longer refusing requests: 1 was refused (queue_timeout)\n") == 1


@kinds
def test_requests_beyond_max_queue_are_refused_at_once(use_uvloop: bool, log: Path, capfd: Capture) -> None:
    with Stuck(log, use_uvloop=use_uvloop, max_queue=2) as stuck:
        kept = [stuck.waiting(encode_request("GET", f"/kept{number}")) for number in range(2)]
        client = stuck.running.client()
        client.send(encode_request("HEAD", "/full"))
        response = client.read("HEAD")
        assert (response.status, response.get("Retry-After"), response.body) == (503, "5", b"")
        assert client.at_end()
        assert stuck.queued() == 2
        assert [stuck.answers(client) for client in kept] == [200, 200]
        assert logged(log, '"HEAD /full HTTP/1.1" 503 - ')
    assert stuck.called == ["/gate", "/kept0", "/kept1"]
    assert "refusing requests while 2 others wait for a thread (503, max_queue)" in capfd.readouterr().err


def test_a_request_for_which_a_thread_is_idle_does_not_wait(log: Path) -> None:
    with Running(echo, threads=2, max_queue=1) as running:
        for _ in range(20):
            assert running.client().get("/x").status == 200


def test_a_client_that_has_gone_makes_room(log: Path) -> None:
    with Stuck(log, max_queue=1) as stuck:
        gone = stuck.waiting(encode_request("GET", "/gone", [("X-Forwarded-For", "192.0.2.1")]))
        gone.socket.close()
        assert stuck.lost("/gone")
        kept = stuck.waiting(encode_request("GET", "/kept"))
        assert stuck.answers(kept) == 200


@pytest.mark.parametrize("limit", [{"queue_timeout": 1.0}, {"max_queue": 1}], ids=str)
def test_requests_behind_a_refused_one_are_not_served(limit: dict[str, Any], log: Path) -> None:
    """The connection of a pipelining client ends with the 503 (RFC 9112 §9.3.2: the client may send them again)."""
    with Stuck(log, **limit) as stuck:
        if "max_queue" in limit:
            stuck.waiting(encode_request("GET", "/kept"))
        client = stuck.running.client()
        client.send(b"".join(encode_request("GET", f"/{number}") for number in range(3)))
        assert client.read().status == 503
        assert client.at_end()
        stuck.gate.opened.set()
        assert wait_until(lambda: not stuck.queued(), SECONDS)
        assert stuck.running.client().get("/next").status == 200
    assert not {"/0", "/1", "/2"} & set(stuck.called)


def test_the_time_behind_an_own_request_does_not_count(log: Path) -> None:
    gate = Gate()
    with Running(gate, threads=2, queue_timeout=0.1) as running, running.client() as client:
        client.send(encode_request("GET", "/gate") + encode_request("GET", "/1") + encode_request("GET", "/2"))
        assert gate.entered.wait(SECONDS)
        wait_until(lambda: False, 0.3)
        gate.opened.set()
        assert [response.status for response in client.read_many(["GET"] * 3)] == [200, 200, 200]


@pytest.mark.parametrize("limit", [{"queue_timeout": 0.1}, {"max_queue": 1}], ids=str)
@pytest.mark.parametrize("expect", [True, False])
def test_a_streamed_body_is_not_awaited(expect: bool, limit: dict[str, Any], log: Path) -> None:
    with Stuck(log, stream_body=True, **limit) as stuck:
        if "max_queue" in limit:
            stuck.waiting(encode_request("GET", "/kept"))
        client = stuck.running.client()
        more = b"Expect: 100-continue\r\n" if expect else b""
        client.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n" + more + b"\r\n")
        if not expect:
            client.send(b"x" * 1000)
        assert client.read().status == 503
        assert client.at_end()
        assert logged(log, '"POST /up HTTP/1.1" 503 ')
    assert "/up" not in stuck.called


def test_a_thread_refuses_what_it_takes_too_late(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    """The loop did not come to it, as if it had been parked."""
    monkeypatch.setattr("starman.serving.executors.shedding.SheddingPool._shed_late", lambda self: None)
    with Stuck(log, queue_timeout=1.0) as stuck:
        client = stuck.waiting(encode_request("GET", "/late"))
        wait_until(lambda: False, 1.2)
        assert stuck.answers(client) == 503
        assert logged(log, '"GET /late HTTP/1.1" 503 ')
        assert stuck.running.client().get("/next").status == 200
    assert stuck.called == ["/gate", "/next"]


def test_many_late_requests_do_not_hold_up_the_loop(monkeypatch: pytest.MonkeyPatch, log: Path) -> None:
    monkeypatch.setattr("starman.serving.executors.shedding.LOOP_SLICE", 0.0)
    with Stuck(log, queue_timeout=1.0) as stuck:
        clients = [stuck.sent(encode_request("GET", f"/{number}")) for number in range(20)]
        assert [client.read().status for client in clients] == [503] * 20
        assert stuck.queued() == 0


def test_without_threads_late_requests_are_refused_when_their_turn_comes(log: Path) -> None:
    called: list[str] = []

    def application(environ: dict[str, Any], start_response: Start) -> Any:
        called.append(environ["PATH_INFO"])
        if environ["PATH_INFO"] == "/slow":
            time.sleep(1.0)
        return echo(environ, start_response)

    with Running(application, in_loop=True, queue_timeout=0.6) as running:
        one, other = running.client(), running.client()
        assert one.get("/first").status == other.get("/first").status == 200
        blocked, opened = block_loop(running)
        one.send(encode_request("GET", "/slow"))
        other.send(encode_request("GET", "/slow"))
        assert blocked.wait(SECONDS)
        opened.set()
        assert sorted([one.read().status, other.read().status]) == [200, 503]
        assert running.client().get("/next").status == 200
    assert called == ["/first", "/first", "/slow", "/next"]


def test_without_threads_the_queue_has_a_limit(log: Path) -> None:
    with Running(echo, in_loop=True, max_queue=1) as running:
        clients = [running.client() for _ in range(5)]
        assert [client.get("/first").status for client in clients] == [200] * 5
        blocked, opened = block_loop(running)
        for client in clients:
            client.send(encode_request("GET", "/x"))
        assert blocked.wait(SECONDS)
        opened.set()
        statuses = [client.read().status for client in clients]
        assert set(statuses) == {200, 503}
        assert running.client().get("/next").status == 200


@pytest.mark.parametrize(("field", "status"), [("X-Request-Start", 503), ("X-Queue-Start", 503), ("X-Other", 200)])
def test_the_time_in_a_proxy_counts_if_the_settings_say_so(field: str, status: int, log: Path) -> None:
    start = (field, f"t={time.time() - 5:.3f}")
    with Running(echo, queue_timeout=2, forwarded="for,proto,start") as running:
        assert running.client().get("/x", start).status == status
    with Running(echo, queue_timeout=2) as running:
        assert running.client().get("/x", start).status == 200
    with Running(echo, queue_timeout=2, forwarded="for,proto,start", forwarded_allow_ips="none") as running:
        assert running.client().get("/x", start).status == 200


def test_the_time_in_a_proxy_is_part_of_the_queue_time(log: Path) -> None:
    def application(environ: dict[str, Any], start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        return [f"{environ['starman.queue_time']:.6f}".encode()]

    with Running(application, forwarded="start", access_log=str(log), access_log_format="%(queue_time)s") as running:
        start = ("X-Request-Start", f"t={time.time() - 5:.3f}")
        body = running.client().get("/x", start).body
        assert 4.9 < float(body) < 5 + SECONDS
        assert logged(log, body.decode())
        assert float(running.client().get("/x").body) < 4


def test_a_slow_upload_is_not_time_in_the_queue(log: Path) -> None:
    with Running(echo, queue_timeout=0.5, forwarded="start") as running, running.client() as client:
        head = f"POST /up HTTP/1.1\r\nHost: a\r\nX-Request-Start: t={time.time():.3f}\r\nContent-Length: 2\r\n\r\n"
        client.send(head.encode() + b"x")
        wait_until(lambda: False, 0.8)
        client.send(b"x")
        assert client.read().status == 200


def test_the_log_says_once_when_shedding_begins_and_ends(monkeypatch: pytest.MonkeyPatch, log: Path, capfd: Capture) -> None:
    monkeypatch.setattr(load_shedding_module, "QUIET_SECONDS", 1.0)
    said: list[str] = []

    def has_said(text: str) -> bool:
        said.append(capfd.readouterr().err)
        return text in "".join(said)

    with Stuck(log, queue_timeout=0.05) as stuck:
        clients = [stuck.sent(encode_request("GET", f"/{number}")) for number in range(5)]
        assert [client.read().status for client in clients] == [503] * 5
        assert wait_until(lambda: has_said("no longer refusing"), SECONDS)
    text = "".join(said)
    assert text.count("refusing requests that have") == text.count("no longer refusing") == 1
    assert "no longer refusing requests: 5 were refused (queue_timeout)\n" in text


def test_the_log_counts_each_reason_and_names_the_time(capfd: Capture) -> None:
    shedding = load_shedding_module.LoadShedding(Settings.of(queue_timeout=2, max_queue=20))
    for number in range(14):
        shedding.note(WAITED_TOO_LONG if number % 2 else QUEUE_IS_FULL)
        shedding.check(1000.0 + 5 * number)
    shedding.check(1100.0)
    said = [line.rpartition("] ")[2] for line in capfd.readouterr().err.splitlines()]
    assert said == [
        "refusing requests while 20 others wait for a thread (503, max_queue)",
        "still refusing requests: 13 were refused in 60 s (6 by queue_timeout, 7 by max_queue)",
        "no longer refusing requests: 14 were refused in 65 s (7 by queue_timeout, 7 by max_queue)",
    ]
