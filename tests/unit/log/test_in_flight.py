"""starman.log.in_flight: requests in words."""

from __future__ import annotations

import pytest

from starman.log.in_flight import MOST_NAMED, counted, printable, stopping_line, while_serving


def test_requests_are_named_the_oldest_first() -> None:
    assert (
        while_serving([("GET /new", 9.5), ("POST /old", 1.0)], 10.04)
        == " while serving POST /old (for 9.0 s), GET /new (for 0.5 s)"
    )
    assert while_serving([], 10.0) == ""


def test_no_more_are_named_than_a_line_can_have() -> None:
    text = while_serving([(f"GET /{number}", float(number)) for number in range(MOST_NAMED + 2)], 100.0)
    assert text.endswith("GET /7 (for 93.0 s) and 2 more")
    assert "/8" not in text


def test_requests_that_no_thread_runs_are_counted() -> None:
    assert while_serving([("GET /a", 9.0)], 10.0, 2) == " while serving GET /a (for 1.0 s) and 2 more"
    assert while_serving([], 10.0, 1) == " with 1 request in flight"
    text = while_serving([(f"GET /{number}", float(number)) for number in range(MOST_NAMED + 2)], 100.0, 5)
    assert text.endswith("GET /7 (for 93.0 s) and 7 more")


def test_what_a_client_chose_is_one_line() -> None:
    assert printable(b"/a\n\x1b[31m\xff\\") == "/a\\n\\x1b[31m\\xff\\\\"


def test_counts_are_english() -> None:
    assert [counted(number, "request") for number in (0, 1, 2)] == ["0 requests", "1 request", "2 requests"]
    assert [counted(number, "request", "are") for number in (1, 2)] == ["1 request is", "2 requests are"]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "stopping: no request is in flight"),
        (1, "stopping: 1 request is in flight and may take 30 s to finish; a second signal aborts it"),
        (3, "stopping: 3 requests are in flight and may take 30 s to finish; a second signal aborts them"),
    ],
)
def test_a_stop_says_what_it_waits_for(count: int, said: str) -> None:
    assert stopping_line(count, 30.0, "a second signal") == said


@pytest.mark.parametrize(("count", "requests"), [(0, "0 requests are"), (1, "1 request is"), (3, "3 requests are")])
def test_a_count_without_some_workers_is_a_lower_bound(count: int, requests: str) -> None:
    said = stopping_line(count, 30.0, "a second signal", complete=False)
    assert said.startswith(f"stopping: at least {requests} in flight and may take 30 s to finish; a second signal aborts ")
