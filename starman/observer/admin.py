"""The admin HTTP of the observer: a WSGI application with /healthz, /readyz, /status and /metrics, and nothing else.

/healthz and /readyz answer without the token: they say no more than a connection to the service does.
"""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

from starman.observer.master_link import MasterSilentError
from starman.observer.metrics.samples import READY_PHASE, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_METHODS = "GET, HEAD"


class AdminApplication:
    """Called in the threads of the observer's service."""

    __slots__ = ("_read_metrics", "_read_report", "_read_status", "_token")

    def __init__(
        self,
        token: str,
        read_report: Callable[[], dict[str, Any]],
        read_status: Callable[[], dict[str, Any]],
        read_metrics: Callable[[str], tuple[bytes, str]],
    ) -> None:
        """`token`: what /status and /metrics ask for (RFC 6750); "": nothing. `read_report`: the master's report
        (`supervision.report`), which costs less than `read_status`, the status document. `read_metrics`: the text of
        the metrics in the format that the field Accept prefers, and its media type. All raise MasterSilentError."""
        self._token = token.encode()
        self._read_report = read_report
        self._read_status = read_status
        self._read_metrics = read_metrics

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """PEP 3333."""
        status, headers, body = self._answer(environ)
        fixed = [("Content-Length", str(len(body))), ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
        start_response(status, [*headers, *fixed])
        return [body]

    def _answer(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        pages = {"/healthz": self._healthz, "/readyz": self._readyz, "/status": self._status, "/metrics": self._metrics}
        path = environ["PATH_INFO"]
        page = pages.get(path)
        if page is None:
            return _text("404 Not Found", f"only {', '.join(pages)}")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            status, headers, body = _text("405 Method Not Allowed", f"only {_METHODS}")
            return status, [*headers, ("Allow", _METHODS)], body
        if path not in ("/healthz", "/readyz") and not self._is_allowed(environ):
            needed = "this page needs the header Authorization: Bearer TOKEN (admin_token)"
            status, headers, body = _text("401 Unauthorized", needed)
            return status, [*headers, ("WWW-Authenticate", 'Bearer realm="starman"')], body
        try:
            return page(environ)
        except MasterSilentError as error:
            return _text("503 Service Unavailable", f"the master {error}")

    def _is_allowed(self, environ: dict[str, Any]) -> bool:
        if not self._token:
            return True
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self._token)

    def _healthz(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        self._read_report()
        return _text("200 OK", "ok")

    def _readyz(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        report = self._read_report()
        if is_ready(report["phase"], report["ready"]):
            return _text("200 OK", "ready")
        phase = report["phase"]
        return _text("503 Service Unavailable", "no worker is ready" if phase == READY_PHASE else phase)

    def _status(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        return "200 OK", [("Content-Type", _JSON)], json.dumps(self._read_status()).encode() + b"\n"

    def _metrics(self, environ: dict[str, Any]) -> tuple[str, list[tuple[str, str]], bytes]:
        body, media_type = self._read_metrics(environ.get("HTTP_ACCEPT", ""))
        return "200 OK", [("Content-Type", media_type), ("Vary", "Accept")], body


def _text(status: str, text: str) -> tuple[str, list[tuple[str, str]], bytes]:
    return status, [("Content-Type", _TEXT)], f"{text}\n".encode()
