"""Request targets as real clients send them: raw punctuation, and percent signs that encode nothing."""

from __future__ import annotations

import json
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest
import requests

from tests.functional.support.harness import Server
from tests.functional.support.tools import curl
from tests.functional.support.wire import Client

# As a person types them or a page has them in a link; "?" begins the query.
TARGETS = [
    "/search?q=100%",
    "/files/[2023]",
    "/files/[2023]?filter[name]=a&filter[]=b",
    '/a|b^c`{d}"e"<f>\\g',
    '/?x=a|b^c`{d}"e"<f>\\g',
    "/100%",
    "/100%/%zz/%4/%",
    "/?x=%zz%4%",
    "/%5B2023%5D%7c%22?x=%7B%22a%22%3A1%7d",
    "/a//b/c;d",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server("tests.functional.support.frameworks:app", "--workers", "1", "--threads", "2") as running:
        yield running


def by_curl(url: str, framework: str) -> bytes:
    return curl("--globoff", "--path-as-is", "-H", f"X-Framework: {framework}", url).stdout


def by_urllib(url: str, framework: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers={"X-Framework": framework}), timeout=30) as response:
        assert isinstance(response.status, int)
        return bytes(response.read())


def by_requests(url: str, framework: str) -> bytes:
    return requests.get(url, headers={"X-Framework": framework}, timeout=30).content


def by_hand(url: str, framework: str) -> bytes:
    """Send the target as it is, without a client that may encode parts of it."""
    host, _, target = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    with Client((name, int(port))) as client:
        response = client.request("GET", "/" + target, [("X-Framework", framework)])
        assert response.status == 200, response
        return response.body


CLIENTS: dict[str, Callable[[str, str], bytes]] = {
    "curl": by_curl, "urllib": by_urllib, "requests": by_requests, "raw": by_hand,
}  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("client", CLIENTS)
def test_what_clients_send_raw_is_served(server: Server, client: str, target: str) -> None:
    """A client may encode some of it or none: the application sees the same path, and the same parameters."""
    path, _, query = target.partition("?")
    environ: dict[str, Any] = json.loads(CLIENTS[client](server.url + target, "plain"))
    assert environ["PATH_INFO"] == unquote(path)
    assert unquote(environ["REQUEST_URI"]) == unquote(target)
    assert parse_qs(environ["QUERY_STRING"]) == parse_qs(query)
    if client == "raw":  # the one that changes nothing
        assert environ["REQUEST_URI"] == target
        assert environ["QUERY_STRING"] == query
    elif client == "curl":  # newer ones write the digits of what is encoded in upper case
        assert _in_upper_case(environ["REQUEST_URI"]) == _in_upper_case(target)
        assert _in_upper_case(environ["QUERY_STRING"]) == _in_upper_case(query)


def _in_upper_case(target: str) -> str:
    return re.sub("%..", lambda found: found[0].upper(), target)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("framework", ["flask", "django"])
def test_frameworks_see_the_path_that_was_meant(server: Server, framework: str, target: str) -> None:
    path, _, query = target.partition("?")
    if "//" in path and framework == "flask":
        return  # it redirects to the path with one slash
    seen = json.loads(by_hand(server.url + target, framework))
    assert seen["path"] == seen["route"] == unquote(path)
    assert seen["query"] == {name: values[-1] for name, values in parse_qs(query).items()}


def test_paths_of_settings_meet_such_targets(tmp_path: Path) -> None:
    """`--path`, `--warm-up` and `--stream-body-path` against paths with brackets, backslashes and odd percent
    signs."""
    arguments = [
        "--path",
        "/[shop]",
        "--warm-up",
        '/[shop]/100%?q="%zz"',
        "--warm-up",
        "/%5Bshop%5D/\\",
        "--stream-body-path",
        "/[shop]/100%",
    ]
    with Server("tests.functional.support.frameworks:app", *arguments, "--workers", "1") as server, server.client() as client:
        for target in ("/[shop]/100%", "/%5Bshop]/100%", "/%5bshop%5D/100%25"):
            environ = json.loads(client.request("POST", target, body=b"x").body)
            assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/[shop]", "/100%")
        assert client.get("/shop/100%").status == 404


def test_a_fragment_is_refused_and_the_log_says_so(server: Server) -> None:
    with server.client() as client:
        response = client.get("/page#part")
        assert (response.status, response.body) == (400, b"the request target contains a #, which must be sent as %23\n")
    server.wait_for(r"refused 127\.0\.0\.1: 400 the request target contains a #")


def test_punctuation_of_a_target_forges_nothing_in_the_access_log(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    with Server("tests.functional.support.frameworks:app", "--workers", "1", "--access-log", str(path)) as server:
        with server.client() as client:
            assert client.get('/" 200 1 "-" "-"\\n'.replace(" ", "%20")).status == 200
        server.stop()
    assert '"GET /\\x22%20200%201%20\\x22-\\x22%20\\x22-\\x22\\x5cn HTTP/1.1" 200 ' in path.read_text()
