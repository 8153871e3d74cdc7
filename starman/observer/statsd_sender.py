"""Sends metrics to a StatsD server once a second. Loop only."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import TYPE_CHECKING

from starman import log
from starman.config.admin_kinds import parse_statsd
from starman.observer.master_link import MasterSilentError
from starman.observer.metrics.statsd import NOTHING, make_lines, make_packets, totals_of

if TYPE_CHECKING:
    from typing import Any

    from starman.config.settings import Settings
    from starman.observer.master_link import MasterLink
    from starman.observer.metrics.reader import MetricsReader
    from starman.observer.metrics.statsd import Totals

# How often (seconds) metrics are sent, and how soon the name of the server is resolved again after a failure.
SECONDS = 1.0
_RETRY_SECONDS = 10.0


class StatsdSender:
    """Sends what has changed. A lost packet is lost, as with any sender of StatsD."""

    __slots__ = ("_logged", "_master", "_metrics", "_settings", "_socket")

    def __init__(self, settings: Settings, master: MasterLink, metrics: MetricsReader) -> None:
        self._settings = settings
        self._master = master
        self._metrics = metrics
        self._socket: socket.socket | None = None
        self._logged = False  # whether the present failure was logged

    async def run(self) -> None:
        """Send until cancelled, and what is left then."""
        before = await self._begin()
        try:
            while True:
                await asyncio.sleep(SECONDS)
                if self._socket is None and not await self._connect():
                    await asyncio.sleep(_RETRY_SECONDS)
                    continue
                before = await self._send_changes(before)
        finally:
            if self._socket is not None:
                now = totals_of([region for region, _ in self._metrics.read_regions()], before.log_lines)
                self._send(before, now._replace(log_lines=before.log_lines), 0)
                self._socket.close()

    async def _begin(self) -> Totals:
        """What is not to be sent any more: an observer before this one, or before an upgrade, has sent it."""
        report: dict[str, Any] = {}
        with contextlib.suppress(MasterSilentError):
            report = await self._master.status()
        if report.get("observers") == 1 and report["upgraded_at"] is None:
            return NOTHING
        return totals_of([region for region, _ in self._metrics.read_regions()], report.get("log_lines", {}))

    async def _send_changes(self, before: Totals) -> Totals:
        try:
            report = await self._master.status()
        except MasterSilentError:
            return before
        now = totals_of([region for region, _ in self._metrics.read_regions()], report.get("log_lines", {}))
        self._send(before, now, report["ready"])
        return now

    def _send(self, before: Totals, now: Totals, workers: int) -> None:
        settings, sock = self._settings, self._socket
        assert sock is not None
        backlog = self._metrics.read_backlog() if settings.enable_backlog_metric else None
        lines = make_lines(before, now, workers, settings.statsd_prefix, settings.dogstatsd_tags, backlog)
        for packet in make_packets(lines):
            with contextlib.suppress(OSError):  # nothing listens there, or the buffer is full
                sock.send(packet)

    async def _connect(self) -> bool:
        """Resolve the address, and make a socket for it. Returns False, and logs once, if that fails."""
        host, port = parse_statsd(self._settings.statsd_host or "")
        sock = None
        try:
            if port:
                found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_DGRAM)
                family, kind, protocol, _, address = found[0]
                sock = socket.socket(family, kind, protocol)
                sock.setblocking(False)
                sock.connect(address)
            else:
                sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
                sock.setblocking(False)
                sock.connect(host)
        except OSError as error:
            if sock is not None:
                sock.close()
            if not self._logged:
                self._logged = True
                source = self._settings.source("statsd_host")
                reason = error.strerror or error
                log.warning(f"{source}: cannot send metrics to {self._settings.statsd_host}, will try again: {reason}")
            return False
        if self._logged:
            log.info(f"metrics are sent to {self._settings.statsd_host} now")
        self._socket, self._logged = sock, False
        return True
