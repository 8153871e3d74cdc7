"""With sniffio installed, as by many HTTP clients: anyio then looks for its event loop in the context in which a
task is started."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.functional.support.applications import digest, pattern
from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import encode_chunks, encode_request

pytest.importorskip("sniffio")

BODY = pattern(1_048_577)  # one byte more than `body_buffer`: it is written to a spool file
CHUNKED = ("Transfer-Encoding", "chunked")


@pytest.mark.parametrize("arguments", [["--threads", "2"], ["--threads", "0"], ["--stream-body"]], ids=" ".join)
@pytest.mark.parametrize("workers", [1, 2])
def test_bodies_beyond_memory_are_served(workers: int, arguments: list[str], tmp_path: Path) -> None:
    """With several workers a thread wakes the loop for a connection: its callbacks run in the empty context of that
    thread."""
    pair = Pair(tmp_path, "localhost")
    listen = ["127.0.0.1:0", "127.0.0.1:0:ssl", str(tmp_path / "socket")]
    with Server(
        None, "--workers", str(workers), *arguments, *pair.arguments, "tests.functional.support.applications:app", listen=listen
    ) as server:
        for _ in range(4):
            with server.client() as client:
                response = client.request("POST", "/digest", body=BODY)
                assert (response.status, response.body) == (200, digest(BODY))
                client.send(encode_request("POST", "/digest", [CHUNKED]) + encode_chunks([BODY[:700_000], BODY[700_000:]]))
                response = client.read("POST")
                assert (response.status, response.body) == (200, digest(BODY))
            with TlsClient(server.ports[1], pair) as secure:
                secure.send(encode_request("POST", "/digest", body=BODY))
                assert secure.read("POST").body == digest(BODY)
        assert "Error" not in server.log


def test_logs_are_reopened_and_an_application_can_end_its_worker(tmp_path: Path) -> None:
    access = tmp_path / "access"
    (tmp_path / "ending.py").write_text(
        "def app(environ, start_response):\n"
        "    environ['starman.harakiri'] = environ['PATH_INFO'] == '/end'\n"
        "    start_response('200 OK', [('Content-Length', '2')])\n"
        "    return [b'ok']\n"
    )
    with Server("ending:app", "--workers", "2", "--access-log", str(access), cwd=tmp_path) as server:
        access.rename(tmp_path / "old")
        server.signal(signal.SIGUSR1)
        server.wait_for("the logs are reopened")
        with server.client() as client:
            assert client.get("/new").body == b"ok"
        assert wait_until(lambda: "GET /new " in access.read_text(), 20)
        pids = set(server.worker_pids())
        with server.client() as client:
            assert client.get("/end").body == b"ok"
        server.wait_for(r"starman\.harakiri")
        assert wait_until(lambda: len(set(server.worker_pids()) & pids) == 1 and len(server.worker_pids()) == 2, 20)
        assert "Error" not in server.log
