"""Chooses requests for `starman-uv trace` by method, path, status and duration. The command line, the observer and
workers use it. No I/O.

A request is a dict, the record that `tracing_log` makes. A message that was refused before it became a request has no
method and no path: a filter for these never chooses it.
"""

from __future__ import annotations

import json
import re
from fnmatch import translate
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The longest text of a filter, in characters, and how many values each of its lists may have.
_LONGEST: Final = 200
_MOST: Final = 20

_STATUS: Final = re.compile(r"[1-5](?:[0-9][0-9]|xx)")
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110 §5.6.2


class TraceFilter:
    """The conditions that a request must meet, all of them.

    methods: one of these. paths: its path, without the query and percent-decoded, matches one of these patterns, in
    which * stands for any text and ? for one character. statuses: one of these, such as "404" or "5xx". least_seconds:
    it has taken as long. Empty, and 0: any.
    """

    __slots__ = ("_patterns", "least_seconds", "methods", "paths", "statuses")

    def __init__(
        self,
        methods: Sequence[str] = (),
        paths: Sequence[str] = (),
        statuses: Sequence[str] = (),
        least_seconds: float = 0.0,
    ) -> None:
        """Raises ValueError that names the wrong value."""
        for name, values in (("methods", methods), ("paths", paths), ("statuses", statuses)):
            if len(values) > _MOST or any(not 0 < len(value) <= _LONGEST for value in values):
                raise ValueError(f"{name}: at most {_MOST} values, each of 1 to {_LONGEST} characters")
        for method in methods:
            if _METHOD.fullmatch(method) is None:
                raise ValueError(f"{method!r} is not a method")
        for status in statuses:
            if _STATUS.fullmatch(status) is None:
                raise ValueError(f"{status!r} is not a status: give a number such as 404, or a class such as 5xx")
        if not 0.0 <= least_seconds < float("inf"):
            raise ValueError(f"{least_seconds} is not a duration in seconds")
        self.methods = tuple(methods)
        self.paths = tuple(paths)
        self.statuses = tuple(statuses)
        self.least_seconds = least_seconds
        self._patterns = [re.compile(translate(path)) for path in paths]

    def matches(self, request: Mapping[str, Any]) -> bool:
        """Whether a request is to be shown."""
        if self.least_seconds and request["seconds"] < self.least_seconds:
            return False
        if self.methods and request["method"] not in self.methods:
            return False
        if self.statuses:
            status = str(request["status"])
            if status not in self.statuses and f"{status[0]}xx" not in self.statuses:
                return False
        if not self._patterns:
            return True
        path = unquote((request["target"] or "").partition("?")[0])
        return bool(path) and any(pattern.match(path) for pattern in self._patterns)

    def fields(self) -> dict[str, Any]:
        """The filter for JSON; `parse` reverses it."""
        return {
            "methods": list(self.methods),
            "paths": list(self.paths),
            "statuses": list(self.statuses),
            "least_seconds": self.least_seconds,
        }

    @classmethod
    def parse(cls, fields: object) -> TraceFilter:
        """The filter of a dict that a client has sent. Raises ValueError for any other object."""
        known = {"methods", "paths", "statuses", "least_seconds"}
        if not isinstance(fields, dict) or not fields.keys() <= known:
            raise ValueError(f"a filter is an object with any of: {', '.join(sorted(known))}")
        methods, paths, statuses = lists = [fields.get(name, []) for name in ("methods", "paths", "statuses")]
        least = fields.get("least_seconds", 0.0)
        if not all(isinstance(values, list) and all(isinstance(value, str) for value in values) for values in lists):
            raise ValueError("methods, paths and statuses are lists of texts")
        if isinstance(least, bool) or not isinstance(least, int | float):
            raise ValueError("least_seconds is a number")
        return cls(methods, paths, statuses, least)


def filters_text(filters: Sequence[TraceFilter]) -> str:
    """Filters as one text in ASCII, for a message; "" for none."""
    return json.dumps([each.fields() for each in filters]) if filters else ""


def parse_filters(text: str) -> list[TraceFilter]:
    """The filters of `filters_text`. Raises ValueError."""
    return [TraceFilter.parse(fields) for fields in json.loads(text)] if text else []
