"""starman.serving.access_log.line_filter: paths and statuses that get no line."""

from __future__ import annotations

import pytest

from starman.serving.access_log.line_filter import LineFilter
from starman.serving.access_log.logged_request import LoggedRequest
from tests.unit.serving.access_log.environs import environ


def skipped(target: object, *paths: str, status: int = 200, errors_only: bool = False) -> bool:
    request = LoggedRequest(environ(REQUEST_URI=target), status, 0, None, (0.0, 0.0), 0)
    return LineFilter(paths, errors_only=errors_only).leaves_out(request)


@pytest.mark.parametrize("target", ["/health", "/health?x=1", "/he%61lth", "http://a.test/health", "/static/", "/static/a.css"])
def test_skipped(target: str) -> None:
    assert skipped(target, "/health", "/static/*")


@pytest.mark.parametrize("target", ["/", "/health/", "/healthy", "/x/health", "/static", "*", "", None, 7, "/?/health"])
def test_not_skipped(target: object) -> None:
    assert not skipped(target, "/health", "/static/*")


def test_a_path_beyond_ascii() -> None:
    assert skipped("/%C3%A9t%C3%A9", "/été")
    assert skipped("/\xc3\xa9t\xc3\xa9", "/été")
    assert not skipped("/%E9t%E9", "/été")


@pytest.mark.parametrize(("status", "out"), [(0, False), (101, True), (200, True), (399, True), (400, False), (500, False)])
def test_errors_only(status: int, out: bool) -> None:
    assert skipped("/", status=status, errors_only=True) is out
    assert skipped("/health", "/health", status=status, errors_only=True)
