"""An application under a prefix: SCRIPT_NAME and PATH_INFO as PEP 3333 has them, 404 outside."""

from __future__ import annotations

from typing import Any
from wsgiref.util import setup_testing_defaults
from wsgiref.validate import validator

import pytest

from starman.wsgi.mount import mount


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['SCRIPT_NAME']}|{environ['PATH_INFO']}".encode("latin-1")]


def get(mounted: Any, path: str, script_name: str = "") -> tuple[str, bytes]:
    environ: dict[str, Any] = {"PATH_INFO": path, "SCRIPT_NAME": script_name, "QUERY_STRING": ""}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    body = validator(mounted)(environ, lambda status, headers, exc_info=None: statuses.append(status) or (lambda data: None))
    try:
        return statuses[0] if statuses else "", b"".join(body)
    finally:
        body.close()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/shop", b"/shop|"),
        ("/shop/", b"/shop|/"),
        ("/shop/a/b", b"/shop|/a/b"),
        ("/shop//a", b"/shop|//a"),
        ("/shop/shop", b"/shop|/shop"),
    ],
)
def test_inside_the_prefix(path: str, expected: bytes) -> None:
    assert get(mount(application, "/shop"), path) == ("200 OK", expected)


@pytest.mark.parametrize("path", ["/", "/shopping", "/sho", "/a/shop", "/SHOP", "/%73hop"])
def test_outside_the_prefix(path: str) -> None:
    assert get(mount(application, "/shop"), path) == ("404 Not Found", b"Not Found\n")


def test_script_name_is_extended() -> None:
    assert get(mount(application, "/b"), "/b/c", script_name="/a") == ("200 OK", b"/a/b|/c")


def test_a_prefix_that_a_proxy_has_stated_and_removed_is_not_missed() -> None:
    assert get(mount(application, "/shop"), "/a", "/shop") == ("200 OK", b"/shop|/a")
    assert get(mount(application, "/shop"), "/a", "/other")[0] == "404 Not Found"


def test_mounts_nest() -> None:
    assert get(mount(mount(application, "/b"), "/a"), "/a/b/c") == ("200 OK", b"/a/b|/c")


def test_no_prefix_is_the_application_itself() -> None:
    assert mount(application, "") is application


def test_a_prefix_beyond_ascii_is_compared_as_bytes() -> None:
    path = "/café/x".encode().decode("latin-1")
    assert get(mount(application, "/café"), path) == ("200 OK", b"/caf\xc3\xa9|/x")


def test_the_asterisk_of_options_is_outside() -> None:
    environ: dict[str, Any] = {"PATH_INFO": "*"}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    assert mount(application, "/a")(environ, lambda status, headers, exc_info=None: statuses.append(status)) == [b"Not Found\n"]  # type: ignore[arg-type,return-value]
    assert statuses == ["404 Not Found"]
