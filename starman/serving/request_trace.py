"""Sends finished requests to the observer while a trace goes on (`starman-uv trace`). Loop only.

Packets go over a socket that the observer reads: in the first line the number of requests that were lost, and in each
further line a request as JSON (`access_log.tracing_log`). Nothing waits for the observer: what it does not read in
time is lost, and counted.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Final

from starman.hooks import worker_number
from starman.serving.access_log.trace_filter import parse_filters
from starman.serving.access_log.tracing_log import TracingLog

if TYPE_CHECKING:
    from starman.serving.context import ServiceContext

# How often (seconds) records are sent.
_INTERVAL: Final = 0.1

# The size of a packet (bytes), unless a single record is larger.
PACKET_BYTES: Final = 16_384

# How many packets are sent at a time, so that connections do not wait for long.
_MOST_PACKETS: Final = 16


class RequestTrace:
    """One trace of a worker: until the next message of the master, or until the observer has closed its end."""

    __slots__ = ("_context", "_log", "_lost", "_needed_details", "_replaced", "_socket", "_timer", "_unsent")

    def __init__(self, context: ServiceContext, filters: str, fd: int) -> None:
        """Begin to trace the requests that match one of `filters` (`trace_filter`). The trace owns `fd` from now on.

        Raises ValueError for filters that are not understood; `fd` is closed then.
        """
        self._socket = socket.socket(fileno=fd)
        self._socket.setblocking(False)
        try:
            chosen = parse_filters(filters)
        except ValueError:
            self._socket.close()
            raise
        self._context = context
        self._replaced = context.access_log
        self._needed_details = context.logs_details
        self._log = TracingLog(context.access_log, chosen, {"worker": worker_number(), "pid": os.getpid()})
        self._unsent = b""
        self._lost = 0
        # In this order: a thread that sees the new log has to make the details of its request.
        context.logs_details = True
        context.access_log = self._log
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._send_due)

    @property
    def descriptor(self) -> int:
        """The descriptor of the socket; -1 after the end."""
        return self._socket.fileno()

    def end(self) -> None:
        """Send what is there, and trace no more. May be called again."""
        if self._socket.fileno() < 0:
            return
        self._timer.cancel()
        # A thread may still log to the old trace: its log passes everything on.
        self._context.access_log = self._replaced
        self._context.logs_details = self._needed_details
        self._send()
        self._socket.close()

    def _send_due(self) -> None:
        if self._send():
            self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._send_due)
        else:
            self.end()

    def _send(self) -> bool:
        """Send what the socket takes. Returns False when the observer has closed its end."""
        for _ in range(_MOST_PACKETS):
            if not self._unsent:
                self._lost += self._log.take_lost()
                lines = self._log.take(PACKET_BYTES)
                if not lines and not self._lost:
                    return True
                self._unsent = b"\n".join((b"%d" % self._lost, *lines))
                self._lost = 0
            try:
                self._socket.send(self._unsent)
            except (BlockingIOError, InterruptedError):
                return True
            except OSError:
                return False
            self._unsent = b""
        return True
