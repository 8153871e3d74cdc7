"""`--queue-timeout` and `--max-queue` of the real command."""

from __future__ import annotations

from pathlib import Path

from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import encode_request

APPLICATION = "tests.functional.support.behind_proxies:app"
ONE_THREAD = ("--workers", "1", "--threads", "1")


def test_a_request_that_waits_too_long_is_refused_and_not_run(tmp_path: Path) -> None:
    events, log = tmp_path / "events", tmp_path / "access.log"
    line = "%(U)s %(s)s %(queue_time)s"
    arguments = (*ONE_THREAD, "--queue-timeout", "0.3", "--access-log", str(log), "--access-log-format", line)
    with Server(APPLICATION, *arguments, env={"TEST_EVENTS": str(events)}) as server:
        with server.client() as busy, server.client() as late:
            busy.send(encode_request("GET", "/slow/busy?4"))
            assert wait_until(events.exists, 20.0)
            response = late.get("/slow/late")
            assert (response.status, response.get("Retry-After")) == (503, "5")
            assert "/slow/busy" not in log.read_text(), "the thread is still busy"
            assert busy.read().status == 200
        server.wait_for(r"refusing requests that have waited 0\.3 s for a thread \(503, queue_timeout\)")
        with server.client() as client:
            assert client.get("/hello").status == 200
        assert wait_until(lambda: "/slow/late 503 0." in log.read_text(), 20.0)
    assert "/slow/late" not in events.read_text()


def test_a_full_queue_refuses_at_once(tmp_path: Path) -> None:
    events = tmp_path / "events"
    with Server(APPLICATION, *ONE_THREAD, "--max-queue", "1", env={"TEST_EVENTS": str(events)}) as server:
        clients = [server.client() for _ in range(4)]
        clients[0].send(encode_request("GET", "/slow/busy?3"))
        assert wait_until(events.exists, 20.0)
        for client in clients[1:]:
            client.send(encode_request("GET", "/hello"))
        server.wait_for(r"refusing requests while 1 other waits for a thread \(503, max_queue\)")
        assert sorted(client.read().status for client in clients) == [200, 200, 503, 503]
        for client in clients:
            client.close()
