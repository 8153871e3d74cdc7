"""starman.serving.connections.lingering: how long a half-closed connection is kept, and how much of it is read."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from starman.serving.connections import lingering as lingering_module
from starman.serving.connections.clients import Clients
from starman.serving.connections.lingering import LINGER_SECONDS, MOST_DROPPED, Lingering
from starman.serving.connections.progress import RATE_GRACE

TIMEOUT = 60.0
RATE = 500


class FakeShared:
    write_timeout = TIMEOUT
    min_send_rate = RATE

    def __init__(self) -> None:
        self.connections = Clients()


class FakeTransport:
    """A transport with `buffered` bytes. It is also its own socket, with `held` bytes that the client has not
    acknowledged."""

    def __init__(self) -> None:
        self.protocol: Any = None
        self.buffered = self.held = 0
        self.reads = True
        self.end = ""

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str) -> FakeTransport:
        assert name == "socket"
        return self

    def fileno(self) -> int:
        return self.held

    def setsockopt(self, *arguments: object) -> None:
        self.end = "reset and "

    def get_write_buffer_size(self) -> int:
        return self.buffered

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def close(self) -> None:
        self.end += "closed"

    def abort(self) -> None:
        self.end += "aborted"


@pytest.fixture
def transport() -> FakeTransport:
    return FakeTransport()


@pytest.fixture
def context() -> FakeShared:
    return FakeShared()


@pytest.fixture
def lingering(transport: FakeTransport, context: FakeShared, monkeypatch: pytest.MonkeyPatch) -> Lingering:
    monkeypatch.setattr(lingering_module, "held_by_the_kernel", lambda fd: fd)
    return Lingering(cast("Any", transport), cast("Any", context))


def test_it_takes_the_place_of_what_has_closed(lingering: Lingering, transport: FakeTransport, context: FakeShared) -> None:
    assert transport.protocol is lingering
    assert list(context.connections) == [lingering]
    lingering.connection_lost(None)
    assert list(context.connections) == []


@pytest.mark.parametrize("where", ["held", "buffered"])
def test_the_time_counts_from_when_the_client_has_all(lingering: Lingering, transport: FakeTransport, where: str) -> None:
    now = 1000.0
    for left in range(20_000, 0, -1000):
        setattr(transport, where, left)
        lingering.check_timeouts(now)
        now += 1.0
    setattr(transport, where, 0)
    lingering.check_timeouts(now)
    lingering.check_timeouts(now + LINGER_SECONDS - 0.1)
    assert transport.end == ""
    lingering.check_timeouts(now + LINGER_SECONDS)
    assert transport.end == "aborted"


def test_a_client_that_takes_nothing_is_reset_after_write_timeout(lingering: Lingering, transport: FakeTransport) -> None:
    transport.held = 100
    lingering.check_timeouts(1000.0)
    lingering.check_timeouts(1000.0 + RATE_GRACE - 0.1)
    assert transport.end == ""
    lingering._context.min_send_rate = 0
    lingering.check_timeouts(1000.0 + TIMEOUT - 0.1)
    assert transport.end == ""
    lingering.check_timeouts(1000.0 + TIMEOUT)
    assert transport.end == "reset and aborted"


@pytest.mark.parametrize(("rate", "end"), [(RATE, ""), (RATE // 2, "reset and aborted")])
def test_a_client_below_min_send_rate_is_reset(lingering: Lingering, transport: FakeTransport, rate: int, end: str) -> None:
    for second in range(int(2.5 * RATE_GRACE)):
        transport.held = 1_000_000 - rate * second
        lingering.check_timeouts(1000.0 + second)
    assert transport.end == end


def test_an_end_that_the_client_says_is_enough(lingering: Lingering, transport: FakeTransport) -> None:
    transport.held = 100
    assert lingering.eof_received() is True
    assert transport.end == "closed"


def test_what_the_client_sends_is_read_a_bit_at_each_tick(lingering: Lingering, transport: FakeTransport) -> None:
    transport.held = 100
    for tick in range(3):
        for _ in range(MOST_DROPPED // 1024):
            assert transport.reads
            lingering.data_received(bytes(1024))
        assert not transport.reads
        lingering.data_received(bytes(1024))  # read before the pause
        lingering.check_timeouts(1000.0 + tick)
    assert transport.reads


@pytest.mark.parametrize(("held", "buffered", "seconds", "end"), [
    (100, 0, LINGER_SECONDS - 0.1, ""),  # the client may be reading
    (100, 0, LINGER_SECONDS, "aborted"),  # the kernel sends the rest
    (100, 50, LINGER_SECONDS, ""),  # the kernel does not have all bytes yet
])  # fmt: skip
def test_a_drain_waits_for_clients_that_read(
    lingering: Lingering,
    transport: FakeTransport,
    monkeypatch: pytest.MonkeyPatch,
    held: int,
    buffered: int,
    seconds: float,
    end: str,
) -> None:
    lingering.close_if_idle(0.0)
    assert transport.end == ""  # no tick has checked yet how much the client has
    transport.held, transport.buffered = held, buffered
    lingering.check_timeouts(1000.0)
    monkeypatch.setattr(lingering_module, "time", SimpleNamespace(monotonic=lambda: 1000.0 + seconds))
    lingering.close_if_idle(0.0)
    assert transport.end == end


@pytest.mark.parametrize(("buffered", "end"), [(0, "aborted"), (1, "reset and aborted")])
def test_the_end_of_the_worker_shows_only_where_something_is_missing(
    lingering: Lingering, transport: FakeTransport, buffered: int, end: str
) -> None:
    transport.held, transport.buffered = 100, buffered
    lingering.reset()
    assert transport.end == end
