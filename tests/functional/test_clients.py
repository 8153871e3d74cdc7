"""Benchmark and scripting clients get no failure, no reset and no warning: ab, wrk, curl, requests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.functional.support.applications import digest, pattern
from tests.functional.support.harness import Server
from tests.functional.support.tools import curl, run_tool


@pytest.fixture(scope="module")
def server(server_env: dict[str, str]) -> Iterator[Server]:
    with Server("tests.functional.support.applications:app", "--workers", "2", "--threads", "4", env=server_env) as running:
        yield running


def assert_ab_is_content(output: str, requests_made: int, kept_alive: bool) -> None:
    assert f"Complete requests:      {requests_made}\n" in output, output
    assert re.search(r"Failed requests: +0\n", output), output
    assert "Non-2xx" not in output, output
    assert "Write errors" not in output, output
    # Every request but the last of each connection reports keep-alive, so a server that closes early shows here.
    found = re.search(r"Keep-Alive requests: +(\d+)", output)
    assert not kept_alive or (found is not None and int(found[1]) >= requests_made * 0.99), output


@pytest.mark.parametrize("keep_alive", [True, False])
def test_ab(server: Server, keep_alive: bool) -> None:
    options = ["-k"] if keep_alive else []
    done = run_tool("ab", *options, "-q", "-c", "10", "-n", "2000", f"{server.url}/hello")
    assert_ab_is_content(done.stdout.decode(), 2000, keep_alive)


def test_ab_posts(server: Server, tmp_path: Path) -> None:
    body = tmp_path / "body"
    body.write_bytes(pattern(20_000))
    done = run_tool("ab", "-k", "-q", "-c", "8", "-n", "1000", "-p", str(body), "-T", "text/plain", f"{server.url}/digest")
    assert_ab_is_content(done.stdout.decode(), 1000, kept_alive=True)


@pytest.mark.parametrize("target", ["/hello", "/stream/5000?step=500", "/large"])
def test_wrk(server: Server, target: str) -> None:
    done = run_tool("wrk", "-t", "1", "-c", "32", "-d", "1s", f"{server.url}{target}")
    output = done.stdout.decode()
    assert "Socket errors" not in output, output
    assert "Non-2xx" not in output, output
    found = re.search(r"(\d+) requests in", output)
    assert found is not None
    assert int(found[1]) > 32, output  # some connection was used again; how often is the machine's affair


def test_curl_reuses_its_connection(server: Server) -> None:
    done = curl("-w", "%{num_connects}\n", *[f"{server.url}/hello"] * 5)
    assert done.stdout == b"hello\n1\n" + b"hello\n0\n" * 4


@pytest.mark.parametrize("options", [[], ["--http1.0"], ["--http2"], ["-H", "Expect: 100-continue"], ["-H", "Connection: close"]])
def test_curl_posts(server: Server, tmp_path: Path, options: list[str]) -> None:
    body = tmp_path / "body"
    body.write_bytes(pattern(2_000_000))
    assert curl(*options, "--data-binary", f"@{body}", f"{server.url}/digest").stdout == digest(pattern(2_000_000))


def test_curl_gets_errors_and_nothing(server: Server) -> None:
    code = ("-o", "/dev/null", "-w", "%{http_code}")
    assert curl(*code, f"{server.url}/error-before").stdout == b"500"
    assert curl(*code, f"{server.url}/status/204").stdout == b"204"
    assert curl(*code, "--head", f"{server.url}/stream/1000").stdout == b"200"


def test_sessions_of_requests(server: Server) -> None:
    def work(number: int) -> int:
        with requests.Session() as session:
            session.trust_env = False
            for turn in range(50):
                body = pattern(number * 1000 + turn)
                assert session.post(f"{server.url}/digest", data=body).content == digest(body)
                assert session.get(f"{server.url}/stream/{turn}").content == pattern(turn)
                assert session.head(f"{server.url}/stream/{turn}").status_code == 200
            return number

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == list(range(8))
