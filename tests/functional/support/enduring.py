"""Closed-loop clients of every kind, for tests that disturb a server. They compare each response with their
request.

Only requests inside a process that was killed with SIGKILL may fail. A client learns its worker from the responses
on its connection. Without a response, the worker is unknown: such a failure is accepted only if the client was
connected while a process was being killed, and failed at that moment.
"""

from __future__ import annotations

import random
import select
import ssl
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from tests.functional.support.certificates import secured
from tests.functional.support.faulty import marked
from tests.functional.support.wire import Address, Client, NoResponseError, Response, encode_chunks, encode_request

# How soon every client must have had an answer, on a machine that is busy with other things. Seconds.
PATIENCE = 120.0
# How long a worker that goes keeps an idle connection for a request that is on its way. Seconds.
LINGER = 0.5
# How long after a death its clients may take to notice. Seconds.
NOTICE = 2.0


@dataclass(frozen=True, slots=True)
class Manner:
    """What a kind of client requests. keeps: the probability that it keeps its connection after a response. idle:
    its requests are at most so many seconds apart. pieces: it sends its body in pieces."""

    kind: str
    sizes: tuple[int, ...] = (0, 1, 100, 5000)
    keeps: float = 0.8
    idle: float = 0.01
    pieces: bool = False


MANNERS = {
    "fresh": Manner("whole", keeps=0.0),
    "keep-alive": Manner("whole", keeps=1.0),
    "idle": Manner("whole", keeps=1.0, idle=1.2),
    "upload": Manner("echo", (10, 5000, 200_000), pieces=True),
    "slow": Manner("slow"),
    "stream": Manner("stream", (10, 100_000, 500_000)),
}


@dataclass(frozen=True, slots=True)
class Kill:
    """A process that was killed: the signal was sent after `since`, and the process was gone before `until`
    (monotonic)."""

    pid: int
    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Failure:
    """A request that failed at `at`, on a connection opened at `opened`. worker: the one that has answered on it;
    None before a response. crossed: it was sent on a connection that had been idle for longer than a worker that
    exits waits, and nothing came back."""

    manner: str
    worker: int | None
    opened: float
    at: float
    error: str
    crossed: bool

    def is_of(self, kill: Kill) -> bool:
        """Whether the request was, or may have been, inside the killed process."""
        if self.worker is not None:
            return self.worker == kill.pid and self.opened < kill.until and self.at > kill.since
        return self.opened < kill.until and kill.since < self.at < kill.until + NOTICE


@dataclass(frozen=True, slots=True)
class Secure:
    """A port with TLS, and the certificate that clients trust there."""

    port: int
    context: ssl.SSLContext


class Connection(Client):
    """A connection that knows the worker at its other end, from the first head of an answer on."""

    worker: int | None = None
    # The time (seconds) from the end of the previous request to the moment at which the kernel had the first bytes of
    # the last one. The server has seen the connection idle for less than this: when it sent its answer is not known
    # here.
    idle_for = 0.0
    is_new_request = True
    _asked_at: float | None = None

    def __init__(self, address: Address | Secure) -> None:
        self.opened = time.monotonic()
        if not isinstance(address, Secure):
            super().__init__(address, PATIENCE)
            return
        super().__init__(("127.0.0.1", address.port), PATIENCE)
        self.socket = secured(self.socket, address.context)

    def read_head(self) -> Response:
        head = super().read_head()
        worker = head.get("X-Worker")
        if worker is not None:
            assert self.worker in (None, int(worker)), "a connection has changed its worker"
            self.worker = int(worker)
        return head

    def send(self, data: bytes) -> None:
        try:
            super().send(data)
        finally:
            if self.is_new_request and self._asked_at is not None:
                self.idle_for = time.monotonic() - self._asked_at
            self.is_new_request = False
            self._asked_at = time.monotonic()

    def is_over(self, seconds: float) -> bool:
        """Whether the server closes the connection within `seconds`. Data without a request is an error."""
        waiting = select.poll()
        waiting.register(self.socket, select.POLLIN)
        if not waiting.poll(seconds * 1000):
            return False
        assert self.at_end(), "bytes that nobody has asked for"
        return True


class Crowd:
    """Clients of each manner on each address, at work in the `with` block, in threads of their own.

    answers: how many each manner has had. received: bytes of their bodies.
    """

    def __init__(self, addresses: list[Address | Secure], seed: str) -> None:
        self.answers: Counter[str] = Counter()
        self.received = 0
        self._kills: list[Kill] = []
        self._failures: list[Failure] = []
        self._changed = threading.Condition()
        self._stopping = False
        self._turns: list[int] = []
        self._threads: list[threading.Thread] = []
        for address in addresses:
            for name in MANNERS:
                number = len(self._turns)
                self._turns.append(0)
                visit = _Visit(self, number, name, address, random.Random(f"{seed}-{number}"))
                self._threads.append(threading.Thread(target=visit.run))

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stopping = True
        for thread in self._threads:
            thread.join(PATIENCE)

    @property
    def stopping(self) -> bool:
        return self._stopping

    def killed(self, kill: Kill) -> None:
        """A process was killed: requests inside it may have failed."""
        with self._changed:
            self._kills.append(kill)

    def failures(self) -> list[Failure]:
        """The failures that are errors of the server."""
        return [failure for failure in self._sorted()[0] if not failure.crossed]

    def crossed(self) -> int:
        """How many requests were sent in the instant in which the server closed a connection that was idle for long
        enough.

        No server can prevent that (RFC 9112 §9.3.1). The client has checked the connection just before it sent.
        """
        return sum(failure.crossed for failure in self._sorted()[0])

    def lost(self) -> int:
        """How many requests were inside a process that was killed."""
        return len(self._sorted()[1])

    def _sorted(self) -> tuple[list[Failure], list[Failure]]:
        """The failures of the living, and those of the killed."""
        sides: tuple[list[Failure], list[Failure]] = ([], [])
        with self._changed:
            for failure in self._failures:
                sides[any(failure.is_of(kill) for kill in self._kills)].append(failure)
        return sides

    def wait_for_turns(self) -> None:
        """Return when each client has had another response. Fails the test if a client waits for too long."""
        with self._changed:
            before = list(self._turns)
            assert self._changed.wait_for(
                lambda: all(now > then for now, then in zip(self._turns, before, strict=True)), PATIENCE
            ), (
                before,
                self._turns,
            )

    def answered(self, number: int, manner: str, size: int) -> None:
        """Client `number` has had its right answer."""
        with self._changed:
            self.answers[manner] += 1
            self.received += size
            self._turns[number] += 1
            self._changed.notify_all()

    def failed(self, failure: Failure) -> None:
        with self._changed:
            self._failures.append(failure)


class _Visit:
    """One client: connection after connection, request after request. Only its own thread calls."""

    def __init__(self, crowd: Crowd, number: int, name: str, address: Address | Secure, chance: random.Random) -> None:
        self._crowd = crowd
        self._number = number
        self._name = name
        self._manner = MANNERS[name]
        self._address = address
        self._chance = chance
        self._connection: Connection | None = None

    def run(self) -> None:
        while not self._crowd.stopping:
            idle = self._chance.random() * self._manner.idle
            opened = time.monotonic()
            try:
                if self._connection is None:
                    self._pause(min(idle, 0.01))
                    self._connection = Connection(self._address)
                elif self._connection.is_over(idle):
                    self._hang_up()
                    continue
                self._ask(self._connection)
            except Exception as error:
                self._judge(error, opened)
        self._hang_up()

    def _ask(self, connection: Connection) -> None:
        manner = self._manner
        tag = f"{self._chance.randrange(16**5):05x}"
        size = self._chance.choice(manner.sizes)
        body = marked(tag, size)
        keeps = self._chance.random() < manner.keeps
        fields = [] if keeps else [("Connection", "close")]
        target = f"/{manner.kind}/{tag}/{size}"
        if not manner.pieces:
            connection.send(encode_request("GET", target, fields))
        elif self._chance.random() < 0.5:
            self._send_in_pieces(connection, encode_request("POST", target, fields, body))
        else:
            head = encode_request("POST", target, [*fields, ("Transfer-Encoding", "chunked")])
            self._send_in_pieces(connection, head + encode_chunks(body[at : at + 50_000] for at in range(0, len(body), 50_000)))
        response = connection.read()
        connection.is_new_request = True
        assert (response.status, response.body) == (200, body), f"another answer: {response.status} {response.body[:100]!r}"
        assert not response.persistent or keeps
        self._crowd.answered(self._number, self._name, len(body))
        if not response.persistent:
            self._hang_up()

    def _send_in_pieces(self, connection: Connection, data: bytes) -> None:
        while data:
            at = self._chance.choice([100, 20_000, 100_000])
            connection.send(data[:at])
            data = data[at:]
            self._pause(0.02)

    def _pause(self, most: float) -> None:
        """A client that pauses. The test does not wait for anything."""
        time.sleep(self._chance.random() * most)

    def _judge(self, error: Exception, opened: float) -> None:
        """A request or a connection has failed: note it, and begin with a new connection."""
        connection = self._connection
        worker = None if connection is None else connection.worker
        ended = isinstance(
            error, (NoResponseError, BrokenPipeError, ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError)
        )
        # The time that has passed, not the one that was to pass: a busy machine may stop this thread just before it
        # sends.
        crossed = connection is not None and worker is not None and connection.idle_for > LINGER and ended
        opened = opened if connection is None else connection.opened
        self._crowd.failed(Failure(self._name, worker, opened, time.monotonic(), repr(error), crossed))
        self._hang_up()

    def _hang_up(self) -> None:
        if self._connection is not None:
            with suppress(OSError):
                self._connection.close()
            self._connection = None
