"""starman.serving.access_log.trace_filter: what is chosen, which filters are wrong, and that they survive the way."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.serving.access_log.trace_filter import TraceFilter, filters_text, parse_filters

REQUEST = {"method": "GET", "target": "/api/caf%C3%A9?page=2", "status": 404, "seconds": 0.25}
REFUSED = {"method": None, "target": None, "status": 400, "seconds": 0.0}


@pytest.mark.parametrize(
    ("chosen", "matches"),
    [
        (TraceFilter(), True),
        (TraceFilter(methods=["POST", "GET"]), True),
        (TraceFilter(methods=["POST"]), False),
        (TraceFilter(paths=["/api/café"]), True),
        (TraceFilter(paths=["/api"]), False),
        (TraceFilter(paths=["/no", "/api/*"]), True),
        (TraceFilter(paths=["/api/caf?"]), True),
        (TraceFilter(paths=["*page=2"]), False),
        (TraceFilter(statuses=["404"]), True),
        (TraceFilter(statuses=["5xx", "4xx"]), True),
        (TraceFilter(statuses=["400", "5xx"]), False),
        (TraceFilter(least_seconds=0.25), True),
        (TraceFilter(least_seconds=0.26), False),
        (TraceFilter(["GET"], ["/api/*"], ["4xx"], 0.1), True),
        (TraceFilter(["GET"], ["/api/*"], ["2xx"], 0.1), False),
    ],
)
def test_conditions(chosen: TraceFilter, matches: bool) -> None:
    assert chosen.matches(REQUEST) is matches


def test_a_refused_message_has_neither_method_nor_path() -> None:
    assert TraceFilter(statuses=["4xx"]).matches(REFUSED)
    assert not TraceFilter(paths=["*"]).matches(REFUSED)
    assert not TraceFilter(methods=["GET"]).matches(REFUSED)


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ([], "a filter is an object with any of: least_seconds, methods, paths, statuses"),
        ({"path": "/"}, "a filter is an object with any of: least_seconds, methods, paths, statuses"),
        ({"paths": "/"}, "methods, paths and statuses are lists of texts"),
        ({"statuses": [404]}, "methods, paths and statuses are lists of texts"),
        ({"statuses": ["6xx"]}, "'6xx' is not a status: give a number such as 404, or a class such as 5xx"),
        ({"methods": ["GET /"]}, "'GET /' is not a method"),
        ({"paths": [""]}, "paths: at most 20 values, each of 1 to 200 characters"),
        ({"paths": ["/"] * 21}, "paths: at most 20 values, each of 1 to 200 characters"),
        ({"least_seconds": True}, "least_seconds is a number"),
        ({"least_seconds": -1}, "-1 is not a duration in seconds"),
        ({"least_seconds": float("nan")}, "nan is not a duration in seconds"),
    ],
)
def test_wrong_filters(fields: Any, error: str) -> None:
    with pytest.raises(ValueError) as wrong:  # noqa: PT011 - the whole text is compared
        TraceFilter.parse(fields)
    assert str(wrong.value) == error


FILTERS = st.builds(
    TraceFilter,
    st.lists(st.sampled_from(["GET", "POST", "M-SEARCH"]), max_size=3),
    st.lists(st.text(min_size=1, max_size=20), max_size=3),
    st.lists(st.sampled_from(["200", "404", "5xx"]), max_size=3),
    st.floats(0, 1e6),
)


@given(st.lists(FILTERS, max_size=3))
def test_filters_survive_a_message(filters: list[TraceFilter]) -> None:
    text = filters_text(filters)
    assert text.isascii()
    assert "\0" not in text
    assert [each.fields() for each in parse_filters(text)] == [each.fields() for each in filters]


@given(FILTERS, st.one_of(st.none(), st.text(max_size=30)), st.integers(100, 599), st.floats(0, 100))
def test_any_request_is_chosen_or_not(chosen: TraceFilter, target: str | None, status: int, seconds: float) -> None:
    method = None if target is None else "GET"
    assert chosen.matches({"method": method, "target": target, "status": status, "seconds": seconds}) in (True, False)
