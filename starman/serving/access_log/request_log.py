"""Where a worker's requests go when they end: the access log (`access_log`), or a trace before it (`tracing_log`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from starman.serving.access_log.logged_request import LoggedRequest
    from starman.wsgi.environ import Environ


class RequestLog(Protocol):
    """Takes finished requests. Which thread may call what: see `AccessLog`."""

    @property
    def make_request(self) -> type[LoggedRequest]:
        """Makes what `add_request` and `add_not_run` take."""

    def add(self, environ: Environ, status_code: int, body_bytes: int) -> None:
        """A request that has ended. Only if the log needs no details."""

    def add_request(self, request: LoggedRequest) -> None:
        """A request that has ended."""

    def add_not_run(self, request: LoggedRequest) -> None:
        """A request that did not run, or whose deadline has passed. Does not block."""

    def add_refusal(self, peer: str, status_code: int) -> None:
        """A message that was refused before it became a request. Does not block."""
