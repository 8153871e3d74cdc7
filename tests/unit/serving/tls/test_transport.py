"""serving.tls.transport over a fake plain transport. Functional tests cover whole services with TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from starman.serving.connections.progress import RATE_GRACE
from starman.serving.refusallog import RefusalLog
from starman.serving.sending.send_queue import SendQueue
from starman.serving.sending.writer import Writer
from starman.serving.sending.writer_state import WriterState
from starman.serving.tls.transport import Session, TlsTransport
from tests.functional.support.certificates import Pair, trusting
from tests.unit.serving.fakes import FakeExchange

TIMEOUT = 60.0


class FakePlain:
    """The plain transport below: `taken` is what the socket took, `waiting` what it did not while it was `full`."""

    def __init__(self) -> None:
        self.taken = bytearray()
        self.waiting = bytearray()
        self.full = False
        self.protocol: Any = None

    def write(self, data: bytes) -> None:
        (self.waiting if self.full else self.taken).extend(data)

    def drain(self) -> None:
        """Take what the socket did not take, and call the protocol, as with a high-water mark of 0."""
        waited = bool(self.waiting)
        self.full = False
        self.taken += self.waiting
        self.waiting.clear()
        if waited:
            self.protocol.resume_writing()

    def get_write_buffer_size(self) -> int:
        return len(self.waiting)

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def is_closing(self) -> bool:
        return False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return SimpleNamespace(fileno=lambda: -1) if name == "socket" else default


class FakeConnection:
    """The connection above: it offers an exchange each time the client has sent something."""

    transport: asyncio.Transport
    send_queue: SendQueue

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.writer = Writer(cast("Any", self), cast("Callable[..., object]", loop.call_soon_threadsafe))
        self.run: list[object] = []

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport
        self.send_queue = SendQueue(cast("Any", self), self.loop, transport, self.writer)

    def data_received(self, data: bytes) -> None:
        exchange = FakeExchange(data)
        if self.writer.offer(cast("Any", exchange), -1, self.transport.get_write_buffer_size() > 0):
            self.run.append(exchange.name)

    def resume_writing(self) -> None:
        self.send_queue.send_next()

    def send_queue_written(self, taken: int) -> bool:
        complete, following = self.writer.on_queue_sent(taken)
        if following is not None:
            self.run.append(cast("Any", following).name)
        return complete


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path, "localhost")


class Client:
    """A client in memory."""

    def __init__(self, pair: Pair) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = trusting(pair).wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")


def connected(pair: Pair, plain: FakePlain, connection: FakeConnection) -> Client:
    """Do the handshake, until the server has only its session tickets to send, which `plain` does not take."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.certificate, pair.key)
    session, client = Session(context), Client(pair)
    for one, other in ((client, session), (session, client)):
        with pytest.raises(ssl.SSLWantReadError):
            one.object.do_handshake()
        other.incoming.write(one.outgoing.read())
    client.object.do_handshake()
    session.incoming.write(client.outgoing.read())
    session.object.do_handshake()
    plain.full = True
    plain.write(session.outgoing.read())
    assert plain.waiting
    TlsTransport(connection.loop, cast("Any", plain), session, cast("Any", connection), RefusalLog(), "192.0.2.1").start()
    return client


def send(client: Client, plain: FakePlain, data: bytes) -> None:
    client.object.write(data)
    plain.protocol.data_received(client.outgoing.read())


@pytest.fixture
def waiting(pair: Pair) -> Any:
    """A plain transport that holds bytes of TLS itself, and the connection with a request that waits behind them."""
    loop = asyncio.new_event_loop()
    plain, connection = FakePlain(), FakeConnection(loop)
    client = connected(pair, plain, connection)
    send(client, plain, b"a request")
    assert connection.writer.state is WriterState.RETURNED
    yield plain, connection
    loop.close()


def test_a_request_behind_what_tls_says_by_itself_is_run(waiting: tuple[FakePlain, FakeConnection]) -> None:
    plain, connection = waiting
    assert connection.run == []
    plain.drain()
    assert connection.run == [b"a request"]


def test_a_request_behind_what_is_never_read_is_timed_out(waiting: tuple[FakePlain, FakeConnection]) -> None:
    _, connection = waiting
    assert not connection.send_queue.is_slow(1000.0, timeout=TIMEOUT, rate=500)
    assert not connection.send_queue.is_slow(1000.0 + RATE_GRACE, timeout=TIMEOUT, rate=500)
    assert connection.send_queue.is_slow(1000.0 + TIMEOUT, timeout=TIMEOUT, rate=500)
