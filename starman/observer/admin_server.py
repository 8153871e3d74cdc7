"""Serves the admin HTTP in the observer: starman's own service, with a small application and few threads. Loop only,
unless a method says otherwise.

A viewer of the page holds a thread while it looks, for at most a minute at a time. The thread never waits for the
client: what a client does not read is kept in memory, up to a limit, beyond which its connection is reset.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starman.config.settings import Settings
from starman.observer.access import Access
from starman.observer.admin import AdminApplication
from starman.observer.page.feed import MOST_VIEWERS, Feed
from starman.observer.page.pages import make_pages
from starman.process.host.admin import read_admin_token
from starman.serving.service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starman.observer.master_link import MasterLink
    from starman.observer.metrics.reader import MetricsReader
    from starman.observer.status import StatusReader
    from starman.process.host.listeners import Listener
    from starman.process.worker_spec import WorkerSpec

# How many requests are answered at a time, beside those of viewers, and how many connections are open.
_THREADS = 2
_CONNECTIONS = 256
# How long (seconds) a client may take for its request, and stay without one. Prometheus keeps its connection.
_HEADER_SECONDS = 10
_KEEPALIVE_SECONDS = 75
# How much (bytes) of its events a viewer may leave unread, and how long (seconds) it may read nothing.
_UNREAD_BYTES = 512 * 1024
_UNREAD_SECONDS = 10
# How long (seconds) requests may take when the observer ends.
_GRACEFUL_SECONDS = 1


class AdminServer:
    """The service, and what it reads."""

    __slots__ = ("_feed", "_loop", "_master", "_metrics", "_service", "_status")

    def __init__(
        self, spec: WorkerSpec, listeners: Sequence[Listener], master: MasterLink, status: StatusReader, metrics: MetricsReader
    ) -> None:
        """Raises SettingError if the token or the certificate cannot be read."""
        self._loop = asyncio.get_running_loop()
        self._master = master
        self._status = status
        self._metrics = metrics
        self._feed = Feed(status, metrics)
        token = read_admin_token(spec.settings, spec.program.working_directory.absolute)
        access = Access(token, spec.settings.admin_hosts)
        application = AdminApplication(access, self._read_report, self._read_status, self._read_metrics, make_pages(self))
        self._service = Service(application, _settings_of(spec.settings), listeners, multiprocess=False, owns_loop=False)

    async def run(self) -> None:
        """Serve until `stop`."""
        sampling = asyncio.create_task(self._feed.run())
        try:
            await self._service.run(lambda: None)
        finally:
            sampling.cancel()

    def stop(self) -> None:
        """Finish the requests, end the streams of viewers, and let `run` return."""
        self._feed.close()
        self._service.drain()

    # Called by the application, in a thread

    def _read_report(self) -> dict[str, Any]:
        return asyncio.run_coroutine_threadsafe(self._master.status(), self._loop).result()

    def _read_status(self) -> dict[str, Any]:
        return asyncio.run_coroutine_threadsafe(self._status.read(), self._loop).result()

    def join(self) -> tuple[int, bytes] | None:
        """See `Feed.join`."""
        return asyncio.run_coroutine_threadsafe(self._feed.join(), self._loop).result()

    def next_event(self, after: int) -> tuple[int, bytes] | None:
        """See `Feed.next_event`."""
        return asyncio.run_coroutine_threadsafe(self._feed.next_event(after), self._loop).result()

    def leave(self) -> None:
        """See `Feed.leave`."""
        self._loop.call_soon_threadsafe(self._feed.leave)

    def read_stacks(self) -> list[dict[str, Any]]:
        """The stacks document."""
        return asyncio.run_coroutine_threadsafe(self._status.read_stacks(force=False), self._loop).result()

    def _read_metrics(self, accept: str) -> tuple[bytes, str]:
        return self._metrics.scrape(self._read_status(), accept)


def _settings_of(settings: Settings) -> Settings:
    """The settings of the admin service, with the certificate of the server's."""
    certificate = {name: settings.value(name) for name in ("ssl_cert", "ssl_key") if settings.value(name) is not None}
    return Settings.of(
        threads=_THREADS + MOST_VIEWERS,
        max_connections=_CONNECTIONS,
        header_timeout=_HEADER_SECONDS,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        graceful_timeout=_GRACEFUL_SECONDS,
        write_timeout=_UNREAD_SECONDS,
        response_buffer=_UNREAD_BYTES,
        response_spool=0,
        # Viewers may look for hours.
        slow_request=0,
        busy_warning=0,
        **certificate,
    )
