"""Generates load in a process of its own: `python -m bench.client JSON` prints a Result as JSON.

Used for loads that wrk cannot make (`wrk.can`), and where wrk is missing. It is ten times slower than wrk: it
cannot measure servers above some 15,000 requests per second, and `client_busy` shows when it is the limit.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import deque
from dataclasses import asdict
from enum import Enum, auto
from typing import Any, cast

import httptools
import uvloop

from bench.results import Result, percentiles
from bench.scenarios import Load
from bench.wrk import FIELD_VALUE, field_name

# The pause after a connection failed. Without it, almost all counted events would be refusals.
RETRY_SECONDS = 0.02
# How much longer than its time a load without any response may last.
FIRST_SECONDS = 5.0
# How long to wait for requests that have begun, with Load.whole.
WHOLE_SECONDS = 240.0
PIECE = b"x" * 65_536
SLOW_PATH = "/slow"


def main() -> int:
    """Run the load that the argument describes, for "seconds", against "port" and "path" of 127.0.0.1."""
    given = json.loads(sys.argv[1])
    generator = Generator(Load(**given["load"]), given["port"], given["path"], given["seconds"])
    print(json.dumps(asdict(uvloop.run(generator.run()))))
    return 0


class Kind(Enum):
    """The class of requests that a latency belongs to."""

    FAST = auto()
    SLOW = auto()  # of a mix
    NEW = auto()  # on a connection of its own, beside others that are kept


class Generator:
    """Gives requests to connections and counts the responses. Lives in one loop."""

    def __init__(self, load: Load, port: int, path: str, seconds: float, connection: type[Connection] | None = None) -> None:
        """`connection`: a subclass that looks at the responses."""
        self.connection = connection or Connection
        self.load = load
        self.port = port
        self.seconds = seconds
        self.errors = 0
        self.done = 0
        self.under_way = 0
        self.over = False
        self.latencies: dict[Kind, list[float]] = {kind: [] for kind in Kind}
        self.heads = {
            Kind.FAST: _head(load, path, load.keep_alive),
            Kind.SLOW: _head(load, SLOW_PATH, load.keep_alive),
            Kind.NEW: _head(load, path, keep_alive=False),
        }
        self._responses = [0] * load.connections  # of each place, whichever connection it has
        # The same for every server.
        self._random = random.Random(1)
        self._due: deque[tuple[float, Kind]] = deque()
        self._free: list[Connection] = []
        self._finished = asyncio.Event()
        self._faults: list[dict[str, Any]] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> Result:
        """Run the whole load. Raises an exception of a callback again, which is a fault of this module."""
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self._faults.append(context))
        began = time.perf_counter()
        for place in range(self.load.connections):
            self.connect(place)
        if self.load.per_second:
            self._keep(self._pace(began))
        await asyncio.sleep(self.seconds)
        deadline = began + self.seconds + FIRST_SECONDS
        while not (self.done or self.errors) and time.perf_counter() < deadline:
            await asyncio.sleep(0.01)
        self.over = True
        if self.load.whole and self.under_way:
            try:
                await asyncio.wait_for(self._finished.wait(), WHOLE_SECONDS)
            except TimeoutError:
                self.errors += self.under_way
        elapsed = time.perf_counter() - began
        if self._faults:
            raise RuntimeError(f"the client is at fault: {self._faults[0]}")
        found = {kind: percentiles(latencies) for kind, latencies in self.latencies.items()}
        return Result(self.done, elapsed, self.errors, found[Kind.FAST], found[Kind.SLOW], found[Kind.NEW], self._least())

    def connect(self, place: int, delay: float = 0.0) -> None:
        """Open the connection of a place (from 0). It gets requests as soon as it is open. The first places are
        those of newcomers."""
        if not self.over:
            self._keep(self._connect(place, delay))

    def next(self, connection: Connection) -> None:
        """Give a connection its next request, if there is one now."""
        if self.over:
            return
        if connection.place < self.load.newcomers:
            connection.ask(time.perf_counter(), Kind.NEW)
        elif not self.load.per_second:
            connection.ask(time.perf_counter(), self._kind())
        elif self._due:
            connection.ask(*self._due.popleft())
        else:
            self._free.append(connection)

    def lost(self, connection: Connection) -> None:
        """A connection is closed."""
        if connection in self._free:
            self._free.remove(connection)

    def began(self) -> None:
        """A request has been sent."""
        self.under_way += 1

    def ended(self, connection: Connection, began: float, kind: Kind, good: int, bad: int) -> None:
        """A request, or a batch of pipelined ones, is complete. After the time is up, it counts only with `whole`."""
        self.under_way -= 1
        if self.over and not self.load.whole:
            return
        self.done += good
        self.errors += bad
        self._responses[connection.place] += good
        if good:
            self.latencies[kind].append((time.perf_counter() - began) * 1000)
        if self.over and not self.under_way:
            self._finished.set()

    async def _connect(self, place: int, delay: float) -> None:
        await asyncio.sleep(delay)
        try:
            await asyncio.get_running_loop().create_connection(lambda: self.connection(self, place), "127.0.0.1", self.port)
        except OSError:
            if not self.over:
                self.errors += 1
                self.connect(place, RETRY_SECONDS)

    async def _pace(self, began: float) -> None:
        due = began
        while not self.over:
            due += self._random.expovariate(self.load.per_second)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            if self._free:
                self._free.pop().ask(due, self._kind())
            else:
                self._due.append((due, self._kind()))

    def _kind(self) -> Kind:
        slow = self.load.slow_percent > 0 and self._random.random() * 100 < self.load.slow_percent
        return Kind.SLOW if slow else Kind.FAST

    def _least(self) -> float | None:
        kept = self._responses[self.load.newcomers :]
        # At random instants it is chance which connection has how many.
        return None if self.load.per_second or not sum(kept) else min(kept) * len(kept) / sum(kept)

    def _keep(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class Connection(asyncio.Protocol):
    """One connection: sends a request, reads the response, and takes the next request or makes room for another
    connection."""

    def __init__(self, generator: Generator, place: int) -> None:
        self.place = place
        self._generator = generator
        self._parser = httptools.HttpResponseParser(self)
        self._waiting = 0  # responses that have not come yet
        self._good = self._bad = 0
        self._began = 0.0
        self._kind = Kind.FAST
        self._upload_left = 0
        self._writable = True
        self._measured = False  # the head gives the length of the response, not the end of the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by its type
        self._generator.next(self)

    def ask(self, began: float, kind: Kind) -> None:
        """Send a request, or a batch of pipelined ones."""
        load = self._generator.load
        self._began, self._kind = began, kind
        self._waiting, self._good, self._bad = load.pipelined, 0, 0
        self._measured = False
        self._generator.began()
        self._transport.write(self._generator.heads[kind] * load.pipelined)
        self._upload_left = load.upload_bytes
        self._upload()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self._bad += self._waiting
            self._transport.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() in (b"content-length", b"transfer-encoding"):
            self._measured = True

    def on_message_complete(self) -> None:
        self._count()
        keep = self._parser.should_keep_alive() and self._generator.load.keep_alive and self._kind is not Kind.NEW
        if self._waiting and keep:
            return
        if not keep:
            self._transport.close()
        self._end()
        if keep:
            self._generator.next(self)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        self._upload()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting:
            if exc is None and not self._measured and self._parser.get_status_code():
                self._count()  # the end of the connection ends the response
            self._end()
        self._generator.lost(self)
        self._generator.connect(self.place, RETRY_SECONDS if self._bad else 0.0)

    def _count(self) -> None:
        if self._parser.get_status_code() < 400:
            self._good += 1
        else:
            self._bad += 1
        self._waiting -= 1

    def _end(self) -> None:
        self._bad += self._waiting
        self._waiting = 0
        self._generator.ended(self, self._began, self._kind, self._good, self._bad)

    def _upload(self) -> None:
        while self._upload_left and self._writable:
            size = min(self._upload_left, len(PIECE))
            self._upload_left -= size
            self._transport.write(PIECE[:size])


def _head(load: Load, path: str, keep_alive: bool) -> bytes:
    lines = [f"{'POST' if load.upload_bytes else 'GET'} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{field_name(number)}: {FIELD_VALUE}" for number in range(load.fields)]
    if load.upload_bytes:
        lines.append(f"Content-Length: {load.upload_bytes}")
    if not keep_alive:
        lines.append("Connection: close")
    return "\r\n".join([*lines, "", ""]).encode("ascii")


if __name__ == "__main__":
    sys.exit(main())
