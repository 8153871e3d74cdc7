"""Decides which requests the access log leaves out: paths, such as those of health checks, and responses without an
error. Any thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from starman.serving.access_log.json_formats import path_and_query

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starman.serving.access_log.logged_request import LoggedRequest

_LOWEST_ERROR: Final = 400


class LineFilter:
    """Leaves requests out."""

    __slots__ = ("_errors_only", "_paths", "_prefixes")

    def __init__(self, skipped: Iterable[str] = (), *, errors_only: bool = False) -> None:
        """`skipped`: paths, not percent-encoded; with "*" at the end, all that begin so. `errors_only`: leave out
        statuses below 400."""
        # As the strings of an environ: bytes, decoded as latin-1.
        paths = [path.encode("utf-8", "surrogateescape").decode("latin-1") for path in skipped]
        self._paths = frozenset(path for path in paths if not path.endswith("*"))
        self._prefixes = tuple(path[:-1] for path in paths if path.endswith("*"))
        self._errors_only = errors_only

    def leaves_out(self, request: LoggedRequest) -> bool:
        """Whether a request gets no line."""
        if self._errors_only and request.status_code < _LOWEST_ERROR:
            return True
        if not self._paths and not self._prefixes:
            return False
        path = path_and_query(request.text("REQUEST_URI") or "")[0]
        if "%" in path:
            path = unquote_to_bytes(path).decode("latin-1")
        return path in self._paths or path.startswith(self._prefixes)
