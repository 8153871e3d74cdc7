"""Serves the admin HTTP in the observer: starman's own service, with a small application and few threads. Loop only,
unless a method says otherwise."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starman.config.settings import Settings
from starman.observer.admin import AdminApplication
from starman.process.host.admin import read_admin_token
from starman.serving.service import Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starman.observer.master_link import MasterLink
    from starman.observer.metrics.reader import MetricsReader
    from starman.observer.status import StatusReader
    from starman.process.host.listeners import Listener
    from starman.process.worker_spec import WorkerSpec

# How many requests are answered at a time, and how many connections are open.
_THREADS = 2
_CONNECTIONS = 64
# How long (seconds) a client may take for its request, and stay without one. Prometheus keeps its connection.
_HEADER_SECONDS = 10
_KEEPALIVE_SECONDS = 75
# How long (seconds) requests may take when the observer ends.
_GRACEFUL_SECONDS = 1


class AdminServer:
    """The service, and what it reads."""

    __slots__ = ("_loop", "_master", "_metrics", "_service", "_status")

    def __init__(
        self, spec: WorkerSpec, listeners: Sequence[Listener], master: MasterLink, status: StatusReader, metrics: MetricsReader
    ) -> None:
        """Raises SettingError if the token or the certificate cannot be read."""
        self._loop = asyncio.get_running_loop()
        self._master = master
        self._status = status
        self._metrics = metrics
        token = read_admin_token(spec.settings, spec.program.working_directory.absolute)
        application = AdminApplication(token, self._read_report, self._read_status, self._read_metrics)
        self._service = Service(application, _settings_of(spec.settings), listeners, multiprocess=False, owns_loop=False)

    async def run(self) -> None:
        """Serve until `stop`."""
        await self._service.run(lambda: None)

    def stop(self) -> None:
        """Finish the requests, and let `run` return."""
        self._service.drain()

    # Called by the application, in a thread

    def _read_report(self) -> dict[str, Any]:
        return asyncio.run_coroutine_threadsafe(self._master.status(), self._loop).result()

    def _read_status(self) -> dict[str, Any]:
        return asyncio.run_coroutine_threadsafe(self._status.read(), self._loop).result()

    def _read_metrics(self, accept: str) -> tuple[bytes, str]:
        return self._metrics.scrape(self._read_status(), accept)


def _settings_of(settings: Settings) -> Settings:
    """The settings of the admin service, with the certificate of the server's."""
    certificate = {name: settings.value(name) for name in ("ssl_cert", "ssl_key") if settings.value(name) is not None}
    return Settings.of(
        threads=_THREADS,
        max_connections=_CONNECTIONS,
        header_timeout=_HEADER_SECONDS,
        keepalive_timeout=_KEEPALIVE_SECONDS,
        graceful_timeout=_GRACEFUL_SECONDS,
        **certificate,
    )
