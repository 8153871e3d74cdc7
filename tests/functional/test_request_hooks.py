"""Hooks around each request: `request_started` and `request_finished`."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from tests.functional.support.harness import Process, Server, free_ports, wait_until

APPLICATION = """\
import threading
from starman import hooks

def note(*words):
    with open("notes.txt", "a") as file:
        file.write(" ".join(map(str, words)) + "\\n")

@hooks.request_started
def started(environ):
    environ["site.thread"] = threading.get_ident()
    note("started", environ["PATH_INFO"])

@hooks.request_finished
def finished(environ, status):
    assert environ["site.thread"] == threading.get_ident()
    note("finished", environ["PATH_INFO"], status)

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/raises":
        raise ValueError("broken")
    if path == "/reads":
        environ["wsgi.input"].read()
    note("application", path, environ["starman.worker_number"], hooks.worker_number())
    start_response("404 Not Found" if path == "/404" else "200 OK", [("Content-Type", "text/plain")])
    return blocks(path) if path in ("/blocks", "/endless") else [b"answer"]

def blocks(path):
    yield b"one"
    while path == "/endless":
        yield b"x" * 65536
    yield b"two"
    note("last block", path)
"""

KINDS = pytest.mark.parametrize("threads", ["0", "2"])


def serve(directory: Path, *arguments: str, more: str = "") -> Server:
    (directory / "site_app.py").write_text(APPLICATION + more)
    return Server("site_app:app", "--workers", "1", *arguments, cwd=directory, env={"PYTHONDONTWRITEBYTECODE": "1"})


def notes(directory: Path, count: int) -> list[str]:
    """The notes, as soon as there are `count` of them."""

    def found() -> list[str]:
        path = directory / "notes.txt"
        return path.read_text().splitlines() if path.exists() else []

    assert wait_until(lambda: len(found()) >= count), found()
    return found()


@KINDS
def test_the_hooks_run_around_the_call_and_the_response(tmp_path: Path, threads: str) -> None:
    with serve(tmp_path, "--threads", threads) as server, server.client() as client:
        for path, body in (
            ("/", b"answer"),
            ("/404", b"answer"),
            ("/blocks", b"onetwo"),
            ("/raises", b"Internal Server Error\n"),
        ):
            assert client.get(path).body == body
            if path == "/raises":
                break
    assert notes(tmp_path, 12) == [
        *("started /", "application / 1 1", "finished / 200"),
        *("started /404", "application /404 1 1", "finished /404 404"),
        *("started /blocks", "application /blocks 1 1", "last block /blocks", "finished /blocks 200"),
        *("started /raises", "finished /raises 500"),
    ]


@KINDS
def test_a_request_whose_client_leaves_is_finished_too(tmp_path: Path, threads: str) -> None:
    with serve(tmp_path, "--threads", threads) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"GET /endless HTTP/1.1\r\nHost: a\r\n\r\n")
            assert connection.recv(3)
        assert notes(tmp_path, 3)[-1] == "finished /endless 0"


@KINDS
def test_hooks_that_fail_cost_no_request(tmp_path: Path, threads: str) -> None:
    more = "\n@hooks.request_started\n@hooks.request_finished\ndef fail(*values): raise ValueError('a hook')\n"
    with serve(tmp_path, "--threads", threads, more=more) as server, server.client() as client:
        for _ in range(2):
            assert client.get("/").body == b"answer"
        server.wait_for("the request_finished hook site_app.fail failed: ValueError: a hook", count=2)
        assert server.log.count("the request_started hook site_app.fail failed: ValueError: a hook") == 2
    assert notes(tmp_path, 6) == ["started /", "application / 1 1", "finished / 200"] * 2


def test_a_body_that_breaks_off_gives_its_own_status(tmp_path: Path) -> None:
    with serve(tmp_path, "--stream-body") as server, socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.sendall(b"POST /reads HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        notes(tmp_path, 1)
        connection.sendall(b"zzz\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
        assert notes(tmp_path, 2) == ["started /reads", "finished /reads 400"]


def test_refused_requests_run_no_hooks(tmp_path: Path) -> None:
    with serve(tmp_path) as server:
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.recv(100).startswith(b"HTTP/1.1 400 ")
        with server.client() as client:
            client.get("/")
    assert notes(tmp_path, 3) == ["started /", "application / 1 1", "finished / 200"]


def test_the_last_request_before_the_end_is_finished(tmp_path: Path) -> None:
    more = "\nimport time\n@hooks.request_finished\ndef slow(environ, status):\n    time.sleep(1)\n    note('slow', status)\n"
    with serve(tmp_path, more=more) as server:
        with server.client() as client:
            assert client.get("/").body == b"answer"
        server.stop()
    assert notes(tmp_path, 4) == ["started /", "application / 1 1", "slow 200", "finished / 200"]


def test_serve_runs_the_hooks_of_requests_and_has_no_number(tmp_path: Path) -> None:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    (port,) = free_ports()
    program = f"import asyncio, starman\nasyncio.run(starman.serve('site_app:app', listen='127.0.0.1:{port}'))\n"
    process = Process([sys.executable, "-c", program], cwd=tmp_path)
    try:
        process.wait_for("ready")
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            assert connection.recv(1000).startswith(b"HTTP/1.1 200 ")
        assert notes(tmp_path, 3) == ["started /", "application / None None", "finished / 200"]
    finally:
        process.kill()


@pytest.mark.parametrize("arguments", [("--threads", "0"), ("--threads", "2"), ("--stream-body",)])
def test_the_access_log_stays_complete(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    path = tmp_path / "access.log"
    with serve(tmp_path, *arguments, "--access-log", str(path), "--access-log-format", "json") as server:
        with server.client() as client:
            client.request("POST", "/reads", body=b"x" * 17)
        assert wait_until(lambda: '"http.request.body.size":17' in path.read_text()), path.read_text()
