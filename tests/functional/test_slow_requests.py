"""All threads of a worker are stuck: the log says so once, names what they run, and says when it is over."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import encode_request

AGE = r"\(for \d+\.\d s\)"
STUCK = (
    rf"\[WARNING\] all threads of this worker \(2\) are busy while serving GET /wait/one {AGE}, POST /wait/two\?x=1 {AGE}: "
    r"none has finished a request for \d+\.\d s, and \d requests? (?:is|are) waiting\n"
)


def test_it_is_said_once_and_when_it_is_over(tmp_path: Path) -> None:
    opened = tmp_path / "opened"
    arguments = ["--workers", "1", "--threads", "2"]
    with Server("tests.functional.support.holding:app", *arguments, env={"TEST_OPENED": str(opened)}) as server:
        with contextlib.ExitStack() as stack:
            clients = [stack.enter_context(server.client(60.0)) for _ in range(5)]
            clients[0].send(encode_request("GET", "/wait/one"))
            assert wait_until(tmp_path.joinpath("opened-wait-one").exists, 30)
            clients[1].send(encode_request("POST", "/wait/two?x=1", body=b"x"))
            assert wait_until(tmp_path.joinpath("opened-wait-two").exists, 30)
            for client in clients[2:]:
                client.send(encode_request("GET", "/after"))
            server.wait_for(STUCK, timeout=30)
            opened.touch()
            for client in clients:
                assert client.read().body == b"ok"
        server.wait_for(r"\[INFO\] requests are being finished again, after \d+\.\d s\n", timeout=30)
        assert server.log.count("threads of this worker (2) are busy") == 1
