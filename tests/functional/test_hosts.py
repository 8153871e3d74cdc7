"""The host that an application reads: Host, or the listener's address if Host is empty or missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.functional.support.harness import Server
from tests.functional.support.wire import Client, Response

FRAMEWORKS = ["flask", "django"]


@pytest.fixture(scope="module", params=["127.0.0.1:0", "*:0", "[::1]:0", "[::]:0"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Listeners with addresses, and listeners without."""
    arguments = ("--workers", "1", "--threads", "2")
    with Server("tests.functional.support.frameworks:app", *arguments, listen=request.param) as running:
        yield running


@pytest.fixture
def host(server: Server) -> str:
    """The address of the connection."""
    return "::1" if "[::" in server.log else "127.0.0.1"


@pytest.fixture
def name(host: str) -> str:
    """The same address, as in a URL."""
    return f"[{host}]" if ":" in host else host


def ask(server: Server, framework: str, *lines: str) -> Response:
    """The answer to a head of these lines."""
    with Client(("::1" if "[::" in server.log else "127.0.0.1", server.port)) as client:
        client.send("\r\n".join([*lines, f"X-Framework: {framework}", "", ""]).encode())
        return client.read()


def seen(server: Server, framework: str, *lines: str) -> dict[str, Any]:
    response = ask(server, framework, *lines)
    assert response.status == 200, response
    answer: dict[str, Any] = json.loads(response.body)
    return answer


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("lines", [["GET / HTTP/1.1", "Host:"], ["GET / HTTP/1.0", "Host:"], ["GET / HTTP/1.0"]], ids=str)
def test_without_a_host_urls_are_built_from_the_listener(server: Server, framework: str, lines: list[str], name: str) -> None:
    answer = seen(server, framework, *lines)
    assert answer["host"] == f"{name}:{server.port}"
    assert answer["url"] == f"http://{name}:{server.port}/x"


@pytest.mark.parametrize("lines", [["GET / HTTP/1.1", "Host:"], ["GET / HTTP/1.0"]], ids=str)
def test_an_empty_host_is_not_in_environ(server: Server, lines: list[str], host: str, name: str) -> None:
    environ = seen(server, "plain", *lines)
    assert "HTTP_HOST" not in environ
    assert (environ["SERVER_NAME"], environ["SERVER_PORT"], environ["REMOTE_ADDR"]) == (name, str(server.port), host)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_the_host_of_an_absolute_target_is_used_beside_an_empty_one(server: Server, framework: str) -> None:
    answer = seen(server, framework, "GET http://shop.example/ HTTP/1.1", "Host:")
    assert (answer["host"], answer["url"]) == ("shop.example", "http://shop.example/x")


def test_a_missing_host_stays_refused(server: Server) -> None:
    assert ask(server, "plain", "GET / HTTP/1.1").status == 400
    assert ask(server, "plain", "GET http://a/ HTTP/1.1").status == 400
