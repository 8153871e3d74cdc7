"""The admin HTTP of the observer: a WSGI application with health, readiness, status, metrics and the page.

/healthz, /readyz and / answer without the token: they say no more than a connection to the service does. The probes
also answer any Host.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from starman.observer.access import Access
from starman.observer.master_link import MasterSilentError
from starman.observer.metrics.samples import READY_PHASE, is_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from starman.observer.page.pages import Answer, Page

_TEXT = "text/plain; charset=utf-8"
_JSON = "application/json"
_METHODS = "GET, HEAD"
# / has no data of the server in it.
_PUBLIC = ("/",)
# Kubernetes and load balancers ask them by any name.
_PROBES = ("/healthz", "/readyz")


class AdminApplication:
    """Called in the threads of the observer's service."""

    __slots__ = ("_access", "_pages", "_read_metrics", "_read_report", "_read_status")

    def __init__(
        self,
        access: Access,
        read_report: Callable[[], dict[str, Any]],
        read_status: Callable[[], dict[str, Any]],
        read_metrics: Callable[[str], tuple[bytes, str]],
        further: Mapping[str, Page],
    ) -> None:
        """`access`: which requests are answered. `read_report`: the master's report (`supervision.report`), which
        costs less than `read_status`, the status document. `read_metrics`: the text of the metrics in the format that
        the field Accept prefers, and its media type. `further`: more pages, by path. All raise MasterSilentError."""
        self._access = access
        self._read_report = read_report
        self._read_status = read_status
        self._read_metrics = read_metrics
        own = {"/healthz": self._healthz, "/readyz": self._readyz, "/status": self._status, "/metrics": self._metrics}
        self._pages: Mapping[str, Page] = {**own, **further}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        """PEP 3333."""
        status, headers, body = self._answer(environ)
        headers = [*headers, ("Cache-Control", "no-store"), ("X-Content-Type-Options", "nosniff")]
        if isinstance(body, bytes):
            start_response(status, [*headers, ("Content-Length", str(len(body)))])
            return [body]
        start_response(status, headers)
        return body

    def _answer(self, environ: dict[str, Any]) -> Answer:
        path = environ["PATH_INFO"]
        page = self._pages.get(path)
        if page is None:
            return _text("404 Not Found", f"only {', '.join(self._pages)}")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text("405 Method Not Allowed", f"only {_METHODS}", ("Allow", _METHODS))
        if path not in _PROBES:
            refusal = self._access.refusal(environ, is_public=path in _PUBLIC)
            if refusal is not None:
                status, text, fields = refusal
                return _text(status, text, *fields)
        try:
            return page(environ)
        except MasterSilentError as error:
            return _text("503 Service Unavailable", f"the master {error}")

    def _healthz(self, environ: dict[str, Any]) -> Answer:
        self._read_report()
        return _text("200 OK", "ok")

    def _readyz(self, environ: dict[str, Any]) -> Answer:
        report = self._read_report()
        if is_ready(report["phase"], report["ready"]):
            return _text("200 OK", "ready")
        phase = report["phase"]
        return _text("503 Service Unavailable", "no worker is ready" if phase == READY_PHASE else phase)

    def _status(self, environ: dict[str, Any]) -> Answer:
        return "200 OK", [("Content-Type", _JSON)], json.dumps(self._read_status()).encode() + b"\n"

    def _metrics(self, environ: dict[str, Any]) -> Answer:
        body, media_type = self._read_metrics(environ.get("HTTP_ACCEPT", ""))
        return "200 OK", [("Content-Type", media_type), ("Vary", "Accept")], body


def _text(status: str, text: str, *fields: tuple[str, str]) -> Answer:
    return status, [("Content-Type", _TEXT), *fields], f"{text}\n".encode()
