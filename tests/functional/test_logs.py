"""The access log is complete under load from several workers; the error log goes to its destination."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.functional.support.commands import starman
from tests.functional.support.harness import REPOSITORY, Server, wait_until
from tests.functional.support.wire import encode_request

COMBINED = re.compile(
    r'(\S+) \S+ \S+ \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "([^"]*)" (\d{3}) (\d+|-) "([^"]*)" "([^"]*)"'
)
APPLICATION = "tests.functional.support.applications:app"


def test_access_log_has_one_whole_line_a_request(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with Server(APPLICATION, "--workers", "3", "--access-log", str(path)) as server:

        def work(number: int) -> None:
            with server.client() as client:
                for turn in range(50):
                    client.send(encode_request("GET", f"/size/{turn}?client={number}", [("User-Agent", "x" * 500)]) * 2)
                    client.read_many(["GET", "GET"])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(work, range(8)))
    matches = [COMBINED.fullmatch(line) for line in path.read_text().splitlines()]
    found = sorted((match[2], match[3], match[4]) for match in matches if match is not None)
    sizes = {0: ("0", "-")}
    assert len(matches) == len(found) == 800
    for number in range(8):
        for turn in range(50):
            lines = [line for line in found if line[0] == f"GET /size/{turn}?client={number} HTTP/1.1"]
            assert len(lines) == 2
            assert all(code == "200" and size in sizes.get(turn, (str(turn),)) for _, code, size in lines)


def test_access_log_fields_cannot_forge_a_line(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with Server(APPLICATION, "--workers", "1", "--access-log", str(path)) as server, server.client() as client:
        fields = [("Referer", "http://example.test/"), ("User-Agent", 'quote " and \\ and \xe9')]
        assert client.get("/nothing", *fields).status == 404
    (line,) = path.read_text().splitlines()
    assert line.startswith("127.0.0.1 - - [")
    assert '"GET /nothing HTTP/1.1" 404 10 "http://example.test/" "' in line
    assert 'quote " and' not in line


def test_access_log_to_standard_output() -> None:
    with Server(APPLICATION, "--workers", "1", "--access-log", "-") as server:
        with server.client() as client:
            client.get("/hello")
        server.wait_for(r'"GET /hello HTTP/1.1" 200 6 "-" "-"')


def test_refusals_are_in_the_access_log(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with Server(APPLICATION, "--workers", "1", "--access-log", str(path)) as server, server.client() as client:
        client.send(b"GET /refused HTTP/1.1\r\n\r\n")
        assert client.read().status == 400
    assert '" 400 ' in path.read_text()


def test_error_log_to_a_file(tmp_path: Path) -> None:
    path = tmp_path / "error.log"
    path.write_text("what was there before\n")
    with Server(APPLICATION, "--workers", "1", "--error-log", str(path), ready=False, listen=f"{tmp_path}/s.sock") as server:
        assert wait_until(lambda: "ready: " in path.read_text(), 20)
        with server.client() as client:
            assert client.get("/error-before").status == 500
            client.close()
        assert wait_until(lambda: "ValueError: secret of the application" in path.read_text())
        assert server.log == ""
    assert path.read_text().startswith("what was there before\n")


def test_an_error_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = starman("--error-log", f"{tmp_path}/nowhere/error.log", "examples/hello.py", cwd=REPOSITORY)
    assert done.returncode == 2
    assert done.stderr == f"starman: error_log: cannot write {tmp_path}/nowhere/error.log: No such file or directory\n"


def test_an_access_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    arguments = ("--workers", "1", "--listen", "127.0.0.1:0", "--access-log", f"{tmp_path}/nowhere/access.log")
    done = starman(*arguments, "examples/hello.py", cwd=REPOSITORY)
    assert done.returncode == 1
    assert f"access_log: cannot write {tmp_path}/nowhere/access.log: No such file or directory\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_client_that_leaves_in_mid_request_is_no_news() -> None:
    with Server("examples/hello.py", "--workers", "1") as server:
        before = server.log
        with server.client() as client:
            client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        with server.client() as client:
            assert client.get("/").status == 200
        assert server.log == before


LOOP_ERRORS = """
import asyncio, logging
from starman.hooks import worker_ready

{configure}

def fail():
    raise ValueError("in a callback")

@worker_ready
def ready():
    asyncio.get_running_loop().call_soon(fail)

def app(environ, start_response):
    start_response("200 OK", [("Content-Length", "0")])
    return []
"""


@pytest.mark.parametrize(
    ("configure", "line"),
    [
        ("", r"\[ERROR\] the event loop reports: Exception in callback .*fail.*\n  Traceback "),
        ("logging.basicConfig(format='mine: %(message)s')", r"(?m)^mine: Exception in callback .*fail"),
    ],
)
def test_what_the_loop_reports_is_in_the_error_log_or_where_the_application_wants_it(
    tmp_path: Path, configure: str, line: str
) -> None:
    (tmp_path / "app.py").write_text(LOOP_ERRORS.format(configure=configure))
    with Server("app:app", "--workers", "1", cwd=tmp_path) as server:
        server.wait_for(line)
        server.wait_for("ValueError: in a callback")
    assert len(re.findall("ValueError: in a callback", server.log)) == 1
