"""The formats of the access log, through the real command, and beside gunicorn; what is left out; clients that
left."""

from __future__ import annotations

import json
import re
from pathlib import Path
from signal import SIGHUP, SIGUSR1
from typing import Any

import pytest

from tests.functional.support.commands import starman
from tests.functional.support.harness import REPOSITORY, Server, wait_until
from tests.functional.support.wire import Client

APPLICATION = "tests.functional.support.applications:app"
TRACE = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
FIELDS = [
    ("User-Agent", 'agent "1" \\ \xe9'),
    ("Referer", "http://r.test/"),
    ("X-Request-ID", "id-7"),
    ("traceparent", f"00-{TRACE[0]}-{TRACE[1]}-01"),
]


def lines_of(tmp_path: Path, *options: str, requests: Any) -> list[str]:
    """The access log of a server that has served `requests(client)`."""
    path = tmp_path / "access.log"
    with Server(APPLICATION, "--workers", "1", "--access-log", str(path), *options) as server, server.client() as client:
        requests(client)
    return path.read_text().splitlines()


def some_requests(client: Client) -> None:
    assert client.request("GET", "/hello?a=b", FIELDS).status == 200
    assert client.request("HEAD", "/hello").body == b""
    assert client.get("/nothing").status == 404
    client.send(b"GET /refused HTTP/1.1\r\n\r\n")
    assert client.read().status == 400


def test_common(tmp_path: Path) -> None:
    lines = lines_of(tmp_path, "--access-log-format", "common", requests=some_requests)
    assert [line.partition("] ")[2] for line in lines] == [
        '"GET /hello?a=b HTTP/1.1" 200 6',
        '"HEAD /hello HTTP/1.1" 200 -',
        '"GET /nothing HTTP/1.1" 404 10',
        '"-" 400 -',
    ]


def test_json(tmp_path: Path) -> None:
    first, head, missing, refused = map(json.loads, lines_of(tmp_path, "--access-log-format", "json", requests=some_requests))
    assert (first["http.request.method"], first["url.path"], first["url.query"]) == ("GET", "/hello", "a=b")
    assert (first["http.response.status_code"], first["http.response.body.size"]) == (200, 6)
    assert (first["user_agent.original"], first["starman.request_id"]) == (r'agent "1" \ \xe9', "id-7")
    assert (first["trace_id"], first["span_id"]) == TRACE
    assert 0 < first["starman.application_time"] <= first["duration"] < 5
    assert re.fullmatch(r"starman-\d+", first["thread.name"])
    assert (head["http.request.method"], head["http.response.body.size"]) == ("HEAD", 0)
    assert missing["http.response.status_code"] == 404
    assert (refused["http.response.status_code"], refused["client.address"]) == (400, "127.0.0.1")


def test_ecs(tmp_path: Path) -> None:
    first, _, missing, _ = map(json.loads, lines_of(tmp_path, "--access-log-format", "ecs", requests=some_requests))
    assert (first["source.ip"], first["url.original"], first["http.request.id"]) == ("127.0.0.1", "/hello?a=b", "id-7")
    assert (first["event.outcome"], missing["event.outcome"]) == ("success", "failure")
    assert 0 < first["event.duration"] < 5_000_000_000


def test_gcp(tmp_path: Path) -> None:
    first, _, missing, _ = map(json.loads, lines_of(tmp_path, "--access-log-format", "gcp", requests=some_requests))
    assert first["httpRequest"]["requestUrl"].endswith("/hello?a=b")
    assert (first["severity"], missing["severity"]) == ("INFO", "WARNING")
    assert re.fullmatch(r"\d+\.\d{6}s", first["httpRequest"]["latency"])


def test_a_custom_format_in_json(tmp_path: Path) -> None:
    line_format = '{"request": "%(r)s", "bytes": %(b)s, "agent": "%(a)s", "user": %(u)s, "field": "%({content-length}o)s"}'
    first, *_ = lines_of(tmp_path, "--access-log-format", line_format, requests=some_requests)
    assert json.loads(first) == {
        "request": "GET /hello?a=b HTTP/1.1",
        "bytes": 6,
        "agent": r'agent "1" \ \xe9',
        "user": None,
        "field": "6",
    }


@pytest.mark.parametrize(
    ("line_format", "reason"),
    [
        ("%(h)s %(x)s", "'%(h)s %(x)s' has an unknown atom, %(x)s; access_log_format takes combined, common, json, ecs, gcp, or"),
        ("jsno", "'jsno' is no format; did you mean 'json'?"),
    ],
)
def test_a_wrong_format_is_an_error_of_the_start(line_format: str, reason: str) -> None:
    done = starman("--access-log", "-", "--access-log-format", line_format, "examples/hello.py", cwd=REPOSITORY)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "%(queue_time)s" in done.stderr


def test_skipped_paths_and_errors(tmp_path: Path) -> None:
    def requests(client: Client) -> None:
        for target in ("/hello", "/size/1", "/size/2?x", "/nothing", "/no/such"):
            client.get(target)

    skip = ("--access-log-skip", "/hello", "--access-log-skip", "/size/*")
    assert [line.split('"')[1] for line in lines_of(tmp_path, *skip, requests=requests)] == [
        "GET /nothing HTTP/1.1",
        "GET /no/such HTTP/1.1",
    ]
    (tmp_path / "access.log").unlink()
    lines = lines_of(tmp_path, "--access-log-errors", "--access-log-skip", "/no/*", requests=requests)
    assert [line.split('"')[1] for line in lines] == ["GET /nothing HTTP/1.1"]


def test_hup_changes_the_format_and_usr1_opens_the_file_again(tmp_path: Path) -> None:
    path, config = tmp_path / "access.log", tmp_path / "starman.toml"
    config.write_text(f'access-log = "{path}"\nworkers = 1\naccess-log-format = "json"\n')
    with Server(APPLICATION, "--config", str(config)) as server:
        with server.client() as client:
            client.get("/hello")
        assert wait_until(path.read_text)
        path.rename(tmp_path / "old.log")
        server.signal(SIGUSR1)
        assert wait_until(path.exists)
        with server.client() as client:
            client.get("/hello?1")
            old = int(client.get("/pid").body)
        config.write_text(f'access-log = "{path}"\nworkers = 1\naccess-log-format = "%(m)s"\naccess-log-errors = true\n')
        server.signal(SIGHUP)
        assert wait_until(lambda: old not in server.session_pids(), 20)
        with server.client() as client:
            client.get("/hello?2")
            client.get("/nothing")
    assert json.loads((tmp_path / "old.log").read_text())["url.path"] == "/hello"
    first, _, last = path.read_text().splitlines()
    assert (json.loads(first)["url.query"], last) == ("1", "GET")
