"""Serves the control socket: one JSON object a line each way, from the user of the server and from root only.

A request is {"command": NAME, ...}; its answer {"ok": true, ...} or {"error": TEXT}. A client may send the next
request after the answer; after a `trace`, whose answers go on until the client closes the connection, it may not. What
clients can cost is limited: connections, the length of a line, and the time for a request.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import time

from starman.observer.commands import run_command
from starman.observer.master_link import MasterSilentError
from starman.observer.request_traces import RequestTraces

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starman.observer.master_link import MasterLink
    from starman.observer.status import StatusReader
    from starman.serving.access_log.trace_filter import TraceFilter

# The most clients at a time; a further one is told so and closed.
MOST_CLIENTS = 64
# The longest request (bytes).
_LINE_BYTES = 4096
# How long (seconds) a client may take for its next request, and to read an answer.
_REQUEST_SECONDS = 20.0
_ANSWER_SECONDS = 20.0
# How long (seconds) the client of a trace may read nothing, and how many requests are sent to it at a time.
_TRACE_SECONDS = 120.0
_TRACE_BATCH = 200
# How many connections are accepted at a time.
_ACCEPT = 32
# struct ucred of unix(7), and macOS's struct xucred up to the user.
_UCRED = struct.Struct("=3i")
_XUCRED = struct.Struct("=II")


class ControlServer:
    """Accepts and answers clients. Loop only."""

    __slots__ = ("_listener", "_master", "_quiet_since", "_status", "_tasks", "_traces")

    def __init__(self, listener: socket.socket, master: MasterLink, status: StatusReader) -> None:
        self._traces = RequestTraces(master.trace)
        master.on_trace_source = self._traces.add_source
        self._listener = listener
        self._master = master
        self._status = status
        self._tasks: set[asyncio.Task[None]] = set()
        self._quiet_since = time.monotonic()

    def start(self) -> None:
        """Begin to accept."""
        self._listener.setblocking(False)
        asyncio.get_running_loop().add_reader(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Accept no more, and close this process's descriptor of the socket."""
        asyncio.get_running_loop().remove_reader(self._listener.fileno())
        self._listener.close()

    def idle_seconds(self) -> float:
        """How long there has been no client."""
        return 0.0 if self._tasks else time.monotonic() - self._quiet_since

    def _accept(self) -> None:
        for _ in range(_ACCEPT):
            try:
                client, _ = self._listener.accept()
            except OSError:  # none left, or no descriptor is free
                return
            client.setblocking(False)
            reason = self._refusal(client)
            if reason:
                with contextlib.suppress(OSError):
                    client.send(_line({"error": reason}))
                client.close()
                continue
            task = asyncio.get_running_loop().create_task(self._serve(client))
            self._tasks.add(task)
            task.add_done_callback(self._on_done)

    def _refusal(self, client: socket.socket) -> str:
        uid = peer_uid(client)
        if uid not in (0, os.geteuid()):
            return "only the user of the server and root may use its control socket"
        return f"the control socket has {MOST_CLIENTS} clients already" if len(self._tasks) >= MOST_CLIENTS else ""

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._quiet_since = time.monotonic()
        if not task.cancelled():
            task.exception()  # of a client that is gone

    async def _serve(self, client: socket.socket) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=client, limit=_LINE_BYTES)
        # So that `drain` waits until the client has taken everything.
        writer.transport.set_write_buffer_limits(0)
        try:
            while await self._answer_next(reader, writer):
                pass
        except (OSError, TimeoutError):
            pass  # the client is gone, or does not read
        finally:
            writer.transport.abort()

    async def _answer_next(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request. Returns False when the connection is to be closed."""
        goes_on = True
        try:
            line = await asyncio.wait_for(reader.readline(), _REQUEST_SECONDS)
            if not line:
                return False
            answer = await self._run(line)
        except TimeoutError:
            goes_on, answer = False, {"error": f"no request within {_REQUEST_SECONDS:g} s"}
        except ValueError:
            goes_on, answer = False, {"error": f"a request of more than {_LINE_BYTES} bytes"}
        chosen = answer.pop("trace", None)
        if chosen is not None:
            await self._send_trace(chosen, reader, writer)
            return False
        writer.write(_line(answer))
        await asyncio.wait_for(writer.drain(), _ANSWER_SECONDS)
        return goes_on

    async def _send_trace(self, chosen: TraceFilter, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Send the requests that match, until the client closes the connection, or reads nothing for long."""
        try:
            subscription = self._traces.subscribe(chosen)
        except ValueError as error:
            writer.write(_line({"error": str(error)}))
            await asyncio.wait_for(writer.drain(), _ANSWER_SECONDS)
            return
        closed = asyncio.ensure_future(reader.read(1))
        try:
            writer.write(_line({"ok": True}))
            while not closed.done():
                changed = asyncio.ensure_future(subscription.changed.wait())
                await asyncio.wait((closed, changed), return_when=asyncio.FIRST_COMPLETED)
                changed.cancel()
                writer.write(subscription.take(_TRACE_BATCH))
                await asyncio.wait_for(writer.drain(), _TRACE_SECONDS)
        finally:
            closed.cancel()
            self._traces.unsubscribe(subscription)

    async def _run(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict) or not isinstance(request.get("command"), str):
            return {"error": "not a request: send a JSON object with a command in one line"}
        try:
            return {"ok": True, **await run_command(request, self._master, self._status)}
        except MasterSilentError as error:
            return {"error": f"the master {error}"}
        except ValueError as error:
            return {"error": str(error)}


def peer_uid(client: socket.socket) -> int:
    """The user of the process at the other end; -1 if the system does not say."""
    option = getattr(socket, "SO_PEERCRED", None)
    try:
        if option is not None:
            return int(_UCRED.unpack(client.getsockopt(socket.SOL_SOCKET, option, _UCRED.size))[1])
        # LOCAL_PEERCRED of macOS and the BSDs, at the level SOL_LOCAL.
        return int(_XUCRED.unpack(client.getsockopt(0, 1, 256)[: _XUCRED.size])[1])
    except (OSError, struct.error):
        return -1


def _line(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer).encode() + b"\n"
