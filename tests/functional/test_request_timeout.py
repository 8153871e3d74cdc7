"""Requests that pass their deadlines: what the client, the log and the other requests get (`--request-timeout`)."""

from __future__ import annotations

import os
import re
import socket
import threading
import time
from pathlib import Path

import pytest

from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import NoResponseError, TruncatedError, encode_request

APPLICATION = "tests.functional.support.hanging:app"
UPGRADE = b"GET /taken HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"


def serve(*arguments: str, threads: int = 1, timeout: str = "0.6") -> Server:
    log = ("--access-log", "-", "--lost-threads", "9")
    return Server(APPLICATION, "--workers", "1", "--threads", str(threads), "--request-timeout", timeout, *log, *arguments)


def thread_count(server: Server) -> int:
    (pid,) = server.worker_pids()
    return len(os.listdir(f"/proc/{pid}/task"))


@pytest.mark.parametrize("more", [(), ("--preload-app",)], ids=["", "preload"])
def test_whatever_hangs_is_answered_with_504(more: tuple[str, ...]) -> None:
    kinds = ("sleep", "lock", "blocked", "native", "busy")
    with serve(*more) as server:
        for kind in kinds:
            with server.client() as client:
                answer = client.get(f"/{kind}")
                assert (answer.status, answer.persistent) == (504, False)
                assert answer.body == b"the request took too long\n"
                assert client.at_end()
            server.wait_for(
                rf"\[WARNING\] timed-out request: GET /{kind} has run for \d\.\d s \(request_timeout\), and its "
                rf'client gets 504; its stack:\n  File "\S+/hanging\.py", line \d+, in app\n'
                rf'  File "\S+/hanging\.py", line \d+, in {kind}\n'
            )
            with server.client() as client:
                assert client.get("/").status == 200
        with server.client() as client:
            assert client.request("HEAD", "/sleep").status == 504
        assert server.stop() == 0
        for kind in kinds:
            assert re.findall(rf'"GET /{kind} HTTP/1.1" (\d+) (\d+)', server.log) == [("504", "26")]


def test_a_response_that_has_begun_is_cut() -> None:
    with serve() as server:
        with server.client() as client, pytest.raises(TruncatedError):
            client.get("/begun")
        with server.client() as client:  # the end of the connection would be the end of the response
            client.send(b"GET /begun HTTP/1.0\r\nHost: x\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                client.read_to_end()
        server.wait_for(r"GET /begun has run for \d\.\d s \(request_timeout\), and its response is cut", count=2)
        with server.client() as client:  # it is complete, and only its generator has not ended
            assert client.get("/begun?length=5").body == b"begun"
            assert client.at_end()
        server.wait_for(r"GET /begun\?length=5 has run for \d\.\d s \(request_timeout\), and its client has the whole response")
        assert server.stop() == 0
        assert re.findall(r'"GET (\S+) HTTP/1.." (\d+) (\d+)', server.log) == [
            *[("/begun", "504", "5")] * 2,
            ("/begun?length=5", "200", "5"),
        ]


def test_the_application_sets_the_deadline() -> None:
    with serve() as server:
        for query, status in (("seconds=1.2&deadline=9", 200), ("seconds=1.2&deadline=0", 200), ("deadline=0.05", 504)):
            with server.client() as client:
                assert client.get(f"/sleep?{query}").status == status
        for wrong in ("-1", "nan"):
            with server.client() as client:
                assert client.get(f"/sleep?deadline={wrong}").status == 500
        server.wait_for(r"GET /sleep\?deadline=0.05 has run for \d\.\d s \(starman\.deadline\), and its client gets 504")
        server.wait_for("ValueError: starman.deadline takes a number of seconds, at least 0, or None, not ", count=2)


def test_it_needs_no_timeout_for_all_requests() -> None:
    with serve(timeout="0") as server, server.client() as client:
        assert client.get("/sleep?seconds=0.7").body == b"slept"
        assert client.get("/sleep?deadline=0.1").status == 504


def test_waits_for_the_client_do_not_count() -> None:
    with serve("--stream-body", threads=3) as server, server.client() as reader, server.client() as writer:
        reader.send(encode_request("GET", "/stream?blocks=400"))
        writer.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1")
        server.wait_for("the application reads /upload")
        for _ in range(2):
            with server.client() as client:
                assert client.get("/sleep").status == 504
        writer.send(b"2")
        assert writer.read().body == b"12"
        assert len(reader.read().body) == 400 * 65536


def test_after_a_wait_for_the_client_the_deadline_still_holds() -> None:
    with serve() as server, server.client() as client:
        client.send(encode_request("GET", "/stream?blocks=400&seconds=1000"))
        time.sleep(1.0)  # the application waits for the client meanwhile
        with pytest.raises(TruncatedError):
            client.read()
        server.wait_for(r"GET /stream\?blocks=400&seconds=1000 has run for \d\.\d s \(request_timeout\), and its response is cut")


def test_a_body_that_still_arrives_is_cut_off_too() -> None:
    with serve("--stream-body") as server, server.client() as client:
        client.send(b"POST /sleep HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n1")
        assert client.read().status == 504
        assert client.at_end()
        with server.client() as other:
            assert other.get("/").status == 200


def test_server_sent_events_need_a_deadline_of_their_own() -> None:
    with serve() as server:
        with server.client() as client, pytest.raises(TruncatedError):
            client.get("/events?count=8")
        with server.client() as client:
            assert client.get("/events?count=8&deadline=0").body.count(b"data: ") == 8


def test_a_connection_that_the_application_has_taken_has_none() -> None:
    with serve() as server, server.client() as client:
        client.send(UPGRADE)
        received = b""
        while block := client.socket.recv(100):
            received += block
        assert received == b"takenstill"
        assert "timed-out" not in server.log


def test_pipelined_requests_behind_it_are_not_answered() -> None:
    with serve() as server, server.client() as client:
        client.send(encode_request("GET", "/") + encode_request("GET", "/sleep") + encode_request("GET", "/"))
        assert [answer.status for answer in client.read_many(["GET", "GET"])] == [200, 504]
        with pytest.raises(NoResponseError):
            client.read()


def test_a_client_that_leaves_does_not_save_the_thread() -> None:
    with serve() as server:
        with server.client() as client:
            client.send(encode_request("GET", "/sleep"))
            assert wait_until(lambda: thread_count(server) > 0)
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        server.wait_for(r"GET /sleep has run for \d\.\d s \(request_timeout\), and its client (?:has left|gets 504)")
        with server.client() as client:
            assert client.get("/").status == 200


def test_a_thread_that_comes_back_is_used_again() -> None:
    with serve() as server:
        with server.client() as client:
            assert client.get("/").status == 200
        before = thread_count(server)
        for _ in range(3):
            with server.client() as client:
                assert client.get("/sleep?seconds=1").status == 504
            with server.client() as client:  # of the spare
                assert client.get("/").status == 200
            assert wait_until(lambda: thread_count(server) == before)
        with server.client() as client:
            assert {client.get("/").body for _ in range(20)} <= {b"starman-1", b"starman-2"}
        assert "is replaced" not in server.log
        assert server.stop() == 0
        assert len(re.findall(r"GET /sleep\S* HTTP", server.log)) == 3


def test_a_worker_with_too_many_lost_threads_is_replaced_without_a_failed_request() -> None:
    with serve("--lost-threads", "0", threads=2) as server:
        (first,) = server.worker_pids()
        failed: list[object] = []
        over = threading.Event()

        def ask_on() -> None:
            with server.client() as client:
                while not over.is_set():
                    answer = client.get("/")
                    failed.extend([answer] if answer.status != 200 else [])
                    if not answer.persistent:
                        client.close()
                        client.__init__(server.address)  # type: ignore[misc]

        asking = threading.Thread(target=ask_on)
        asking.start()
        for _ in range(2):
            with server.client() as client:
                assert client.get("/sleep").status == 504
        server.wait_for(r"worker 1 \(\d+\) is replaced: 2 threads are busy with requests that have timed out \(lost_threads\)")
        assert wait_until(lambda: first not in server.worker_pids() and len(server.worker_pids()) == 1)
        over.set()
        asking.join(30)
        assert failed == []
        assert not asking.is_alive()


def test_hooks_get_the_status_when_the_application_returns(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(
        "import time\nfrom starman import hooks\n\n@hooks.request_finished\ndef finished(environ, status):\n"
        "    print('finished', environ['PATH_INFO'], status, flush=True)\n\ndef app(environ, start_response):\n"
        "    time.sleep(1 if environ['PATH_INFO'] == '/slow' else 0)\n    start_response('200 OK', [])\n    return [b'']\n"
    )
    arguments = ("--workers", "1", "--threads", "1", "--request-timeout", "0.5", "--lost-threads", "9")
    with Server("site_app:app", *arguments, cwd=tmp_path) as server:
        with server.client() as client:
            assert client.get("/slow").status == 504
        server.wait_for("finished /slow 504\n")
        with server.client() as client:
            assert client.get("/").status == 200
        server.wait_for("finished / 200\n")


def test_without_threads_the_loop_is_silent_and_the_worker_is_replaced() -> None:
    with serve(threads=0, timeout="2") as server:
        (first,) = server.worker_pids()
        with server.client(60) as client, pytest.raises((NoResponseError, ConnectionError)):
            client.get("/sleep")
        server.wait_for(r"its loop has been silent for \d\.\d s \(worker_timeout\) while serving GET /sleep ")
        assert wait_until(lambda: first not in server.worker_pids())
        with server.client() as client:
            assert client.get("/").status == 200


def test_without_threads_an_application_may_set_a_deadline_all_the_same() -> None:
    with serve(threads=0, timeout="0") as server:
        with server.client() as client:
            assert client.get("/sleep?seconds=0.3&deadline=0").body == b"slept"
            assert "no effect" not in server.log, "nothing was asked for that the server does not do"
            for _ in range(2):
                assert client.get("/sleep?seconds=0.3&deadline=0.1").body == b"slept"
        with server.client() as client:
            assert client.get("/sleep?deadline=-1").status == 500
        server.wait_for("ValueError: starman.deadline takes a number of seconds, at least 0, or None, not ")
        line = "[INFO] starman.deadline has no effect with --threads 0: only the timeouts of the worker apply"
        assert server.log.count(line) == 1


def test_native_code_that_holds_the_lock_is_left_to_the_watchdog() -> None:
    with serve("--worker-timeout", "2") as server:
        with server.client(60) as client, pytest.raises((NoResponseError, ConnectionError)):
            client.get("/held")
        server.wait_for(r"its loop has been silent for \d\.\d s \(worker_timeout\) while serving GET /held ")


@pytest.mark.parametrize("more", [(), ("--preload-app",)], ids=["", "preload"])
def test_an_interrupted_application_cleans_up_and_its_thread_comes_back(more: tuple[str, ...]) -> None:
    with serve("--request-interrupt", "--lost-threads", "2", *more) as server:
        with server.client() as client:
            assert client.get("/").status == 200
        before = thread_count(server)
        for number in range(3):
            with server.client() as client:
                assert client.get("/careful").status == 504
            server.wait_for("cleaned up after <class 'starman.errors.RequestTimeout'>", count=number + 1)
        assert wait_until(lambda: thread_count(server) == before)
        # In native code it takes effect when the call returns.
        with server.client() as client:
            assert client.get("/sleep?seconds=1.5").status == 504
        assert wait_until(lambda: thread_count(server) == before)
        with server.client() as client:
            assert client.get("/").status == 200
        assert "an ordinary exception" not in server.log
        assert "is replaced" not in server.log


def test_an_interruption_reaches_no_other_request() -> None:
    """Requests end around their deadlines, and others of the same thread follow at once.

    The loop may get the interpreter's lock 5 ms after the deadline, so some take longer than that.
    """
    with serve("--request-interrupt", "--lost-threads", "99", timeout="0.03") as server:
        statuses = []
        for number in range(150):
            with server.client() as client:
                statuses.append(client.get(f"/busy?seconds={0.028 + number % 9 * 0.003}").status)
            with server.client() as client:
                assert client.get("/").status == 200
        assert set(statuses) <= {200, 504}
        assert 504 in statuses
        assert server.stop() == 0
        assert "GET / " not in "".join(re.findall(r"the application failed: GET \S+ ?", server.log))
        assert "inside starman" not in server.log
        assert len(re.findall(r'"GET /busy\S* HTTP/1.1" (?:200|504) ', server.log)) == 150
