"""The formats of the access log, through the real command, and beside gunicorn; what is left out; clients that
left."""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
from pathlib import Path
from signal import SIGHUP, SIGUSR1
from typing import Any

import pytest

from tests.functional.support.commands import starman
from tests.functional.support.harness import REPOSITORY, Process, Server, wait_until
from tests.functional.support.wire import Client, encode_request

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


# All atoms of gunicorn; the times last, because they differ.
ALL_ATOMS = (
    '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(m)s <%(U)s> <%(q)s> %(H)s %(s)s %(b)s %(B)d "%(f)s" "%(a)s" %({x-request-id}i)s '
    "%({X-None}i)s %({Host}i)s %({content-length}i)s %({Content-Type}o)s %({content-length}o)s %({x-latin}o)-6s "
    "%({wsgi.url_scheme}e)s %({request_method}e)s %({REMOTE_ADDR}e)s %({none}e)s 100%% %(p)s %(T)d %(M)d %(D)08d %(L)s"
)
TIMES = re.compile(r"<\d+> (\d+) (\d+) (\d{8,}) (\d+\.\d{6})$")


def requests_of_all_kinds(client: Client) -> None:
    fields = [("User-Agent", "agent/1.0 (x)"), ("Referer", "http://r.test/?a=b"), ("X-Request-ID", "7")]
    basic = ("Authorization", "Basic YWxpY2U6c2VjcmV0")
    assert client.request("GET", "/hello", fields).status == 200
    assert client.request("GET", "/h%65llo?a=b&c=%20", [*fields, basic]).status == 200
    assert client.request("POST", "/echo", fields, b"body").body == b"body"
    assert client.request("HEAD", "/hello").body == b""
    assert client.request("GET", "/status/304?body=no").body == b""
    assert client.request("GET", "/status/204?body=no").body == b""
    assert client.request("GET", "/fields").status == 200
    assert client.request("GET", "/write").body == b"one two three"
    assert client.request("GET", "/stream/3").status == 200
    assert client.request("GET", "/nothing").status == 404


def test_a_format_of_all_atoms_is_logged_as_by_gunicorn(tmp_path: Path) -> None:
    ours = lines_of(tmp_path, "--access-log-format", ALL_ATOMS, requests=requests_of_all_kinds)
    theirs_path = tmp_path / "gunicorn.log"
    command = [sys.executable, "-m", "gunicorn", "--bind", "127.0.0.1:0", "--threads", "2", "--workers", "1"]
    command += ["--access-logfile", str(theirs_path), "--access-logformat", ALL_ATOMS, APPLICATION]
    theirs_server = Process(command, REPOSITORY)
    try:
        port = int(theirs_server.wait_for(r"Listening at: http://127\.0\.0\.1:(\d+)")[1])
        with Client(("127.0.0.1", port)) as client:
            requests_of_all_kinds(client)
        assert wait_until(lambda: theirs_path.read_text().count("\n") == len(ours))
    finally:
        theirs_server.kill()
    theirs = theirs_path.read_text().splitlines()
    for line, expected in zip(ours, theirs, strict=True):
        for each in (line, expected):
            times = TIMES.search(each)
            assert times is not None, each
            microseconds = int(times[3])
            assert (int(times[1]), int(times[2])) == (microseconds // 1_000_000, microseconds // 1000)
            assert int(times[4].replace(".", "")) == microseconds
        assert comparable(line) == comparable(expected).replace("\xe9", r"\xe9")


def comparable(line: str) -> str:
    return re.sub(r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]", "[time]", TIMES.sub("<pid> times", line))


def reset(client: Client) -> None:
    """Leave with a reset, which the server notices at once."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


JSON = ("--access-log-format", "json", "--threads", "1")


def test_a_client_that_leaves_in_the_middle_of_its_response_is_499(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    env = {"TEST_EVENTS": str(tmp_path / "events")}
    with Server(APPLICATION, "--workers", "1", "--access-log", str(path), *JSON, env=env) as server:
        with server.client() as client:
            client.send(encode_request("GET", "/endless/x"))
            assert client.read_head().status == 200
            reset(client)
        assert wait_until(path.read_text)
    line = json.loads(path.read_text())
    assert (line["url.path"], line["http.response.status_code"]) == ("/endless/x", 499)
    assert line["http.response.body.size"] > 0


def test_a_request_that_waits_when_its_client_leaves_is_499_and_does_not_run(tmp_path: Path) -> None:
    path, events = tmp_path / "access.log", tmp_path / "events"
    env = {"TEST_EVENTS": str(events)}
    with Server(APPLICATION, "--workers", "1", "--access-log", str(path), *JSON, env=env) as server:
        with server.client() as client:
            waiting = encode_request("POST", "/slow/0?name=never", [("X-Request-ID", "left")], b"body")
            client.send(encode_request("GET", "/slow/1?name=first") + waiting)
            assert wait_until(lambda: events.exists() and "start first" in events.read_text())
            reset(client)
        assert wait_until(lambda: path.read_text().count("\n") == 2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lost, ran = sorted(lines, key=lambda line: line["http.request.method"] == "GET")
    assert (lost["http.response.status_code"], lost["http.request.method"], lost["url.query"]) == (499, "POST", "name=never")
    assert (lost["http.response.body.size"], lost["http.request.body.size"], lost["starman.request_id"]) == (0, 4, "left")
    assert (lost["starman.application_time"], lost["duration"] > 0) == (0, True)
    assert (ran["http.response.status_code"], ran["url.query"]) == (499, "name=first")
    assert "never" not in events.read_text()


def test_bodies_of_any_framing_are_counted_without_it(tmp_path: Path) -> None:
    def requests(client: Client) -> None:
        assert len(client.get("/stream/100000").body) == 100_000
        assert client.request("HEAD", "/stream/100000").body == b""
        assert client.get("/status/304?body=no").body == b""
        chunks = b"POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3;ext\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"
        client.send(chunks)
        assert client.read().body == b"abcdefg"

    lines = lines_of(tmp_path, "--access-log-format", "%(m)s %(s)s %(b)s %(bytes_received)s", requests=requests)
    assert lines == ["GET 200 100000 0", "HEAD 200 0 0", "GET 304 0 0", "POST 200 7 7"]
    (tmp_path / "access.log").unlink()
    options = ("--stream-body", "--access-log-format", "%(m)s %(s)s %(b)s %(bytes_received)s")
    assert lines_of(tmp_path, *options, requests=requests) == lines
