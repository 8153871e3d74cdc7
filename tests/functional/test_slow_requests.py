"""Busy threads and slow requests: the log says so once, names them and their lines, and says when it is over."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

import pytest

from tests.functional.support.commands_for_servers import run_for, status_of
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import encode_request

APPLICATION = "tests.functional.support.holding:app"
AT = r"\(for \d+\.\d s, at \S+/holding\.py:\d+ in hold\)"
BUSY = (
    rf"\[WARNING\] all 2 threads of this worker are busy while serving GET /wait/one {AT}, POST /wait/two\?x=1 {AT}; "
    r"3 requests wait for a thread, the first of them for \d+\.\d s\n"
)
SLOW = (
    r"\[WARNING\] slow request: GET /wait/one has run for \d\.\d s so far; its stack:\n"
    r'  File "\S+/holding\.py", line \d+, in app\n  File "\S+/holding\.py", line \d+, in hold\n'
)


@pytest.mark.parametrize("preload", [False, True])
def test_they_are_logged_once(tmp_path: Path, preload: bool) -> None:
    opened = tmp_path / "opened"
    arguments = ["--workers", "1", "--threads", "2", "--busy-warning", "1.5", "--slow-request", "1"]
    if preload:
        arguments.append("--preload-app")
    with Server(APPLICATION, *arguments, env={"TEST_OPENED": str(opened)}) as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.client(60.0)) for _ in range(5)]
            clients[0].send(encode_request("GET", "/wait/one"))
            assert wait_until(tmp_path.joinpath("opened-wait-one").exists, 30)
            clients[1].send(encode_request("POST", "/wait/two?x=1", body=b"x"))
            assert wait_until(tmp_path.joinpath("opened-wait-two").exists, 30)
            for client in clients[2:]:
                client.send(encode_request("GET", "/after"))
            server.wait_for(SLOW, timeout=30)
            server.wait_for(BUSY, timeout=30)
            opened.touch()
            for client in clients:
                assert client.read().body == b"ok"
        server.wait_for(r"\[INFO\] requests wait less than 1\.5 s for a thread again, after \d+\.\d s\n", timeout=30)
        assert server.log.count("all 2 threads of this worker are busy") == 1
        assert sorted(re.findall(r"slow request: (\S+ /wait/\w+)", server.log)) == ["GET /wait/one", "POST /wait/two"]


def test_waits_for_the_client_do_not_count() -> None:
    arguments = ["--workers", "1", "--threads", "3", "--slow-request", "0.7", "--stream-body"]
    with Server("tests.functional.support.hanging:app", *arguments) as server, contextlib.ExitStack() as stack:
        reader, writer, hanging = (stack.enter_context(server.client(60.0)) for _ in range(3))
        reader.send(encode_request("GET", "/stream?blocks=400"))
        writer.send(b"POST /upload HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n1")
        server.wait_for("the application reads /upload", timeout=30)
        hanging.send(encode_request("GET", "/sleep?seconds=1.5"))
        assert hanging.read().body == b"slept"
        hanging.send(encode_request("GET", "/sleep?seconds=1.5"))
        assert hanging.read().body == b"slept"
        writer.send(b"2")
        assert writer.read().body == b"12"
        assert len(reader.read().body) == 400 * 65536
        assert re.findall(r"slow request: (\S+ \S+)", server.log) == ["GET /sleep?seconds=1.5"] * 2


def test_status_keeps_slow_and_timed_out_requests_with_their_stacks() -> None:
    arguments = ["--workers", "1", "--threads", "3", "--slow-request", "0.5", "--request-timeout", "1.5", "--lost-threads", "9"]
    with Server("tests.functional.support.hanging:app", *arguments) as server, contextlib.ExitStack() as stack:
        assert status_of(server)["slow_requests"] == []
        (worker,) = server.worker_pids()
        clients = [stack.enter_context(server.client(60.0)) for _ in range(2)]
        for client, path in zip(clients, ("/sleep?x=1", "/lock"), strict=True):
            client.send(encode_request("GET", path))
        for client in clients:
            assert client.read().status == 504
        # Both became slow at the same moment, and one a second is reported.
        assert wait_until(lambda: len(status_of(server)["slow_requests"]) == 4, 30)
        slow = status_of(server)["slow_requests"]
        kept = {(entry["request"], entry["timed_out"]) for entry in slow}
        assert kept == {(f"GET {path}", ended) for path in ("/sleep?x=1", "/lock") for ended in (False, True)}
        for entry in slow:
            assert (entry["number"], entry["pid"]) == (1, worker)
            assert (1.5 if entry["timed_out"] else 0.5) <= entry["seconds"] < 30.0
            assert 0.0 <= entry["seconds_ago"] < 60.0
            name = "sleep" if "sleep" in entry["request"] else "lock"
            assert re.search(
                rf'^File "\S+/hanging\.py", line \d+, in app\nFile "\S+/hanging\.py", line \d+, in {name}$', entry["stack"]
            )
        text = run_for(server, "status")
        assert "slow requests, the last one first:\n" in text
        assert re.search(
            rf"s ago  worker 1 \({worker}\) GET /lock had run for \d+\.\d s and timed out\n"
            r'  File "\S+/hanging\.py", line \d+, in app\n  File "\S+/hanging\.py", line \d+, in lock\n?',
            text,
        )
