"""starman.serving.accepting.proxy_header: the hand-over to the connection, refusals, and the methods of a client."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from starman.config.settings import Settings
from starman.config.trusted_peers import TrustedPeers
from starman.proto.proxy_protocol import V1, V2
from starman.serving.accepting.proxy_header import ProxyHeaderReader, ProxyHeaderRules
from starman.serving.connections.clients import Clients
from starman.serving.metrics.refusal_counts import RefusalCounts

HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 443\r\n"
RULES = ProxyHeaderRules(frozenset((V1, V2)), TrustedPeers(["127.0.0.1", "unix"]))
PEER = ("127.0.0.1", 5)


class FakeTransport:
    """Notes what is done to it."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.protocol: Any = None

    def set_protocol(self, protocol: Any) -> None:
        self.protocol = protocol

    def abort(self) -> None:
        self.done.append("abort")

    def is_closing(self) -> bool:
        return bool(self.done)

    def get_extra_info(self, name: str) -> Any:
        return SimpleNamespace(setsockopt=lambda *_: self.done.append("reset"))


class FakeProtocol(asyncio.Protocol):
    """The connection that takes over."""

    def __init__(self, client: object) -> None:
        self.client = client
        self.transport: object = None
        self.data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data


class Case:
    """A reader, connected."""

    def __init__(self, peer: object = PEER, begin: Any = FakeProtocol) -> None:
        self.log: list[str] = []
        self.counts = RefusalCounts()
        self.welcomes = 0
        self.transport = FakeTransport()
        self.connections = Clients()
        context = SimpleNamespace(
            connections=self.connections,
            header_timeout=2.0,
            refusals=SimpleNamespace(add=self.log.append),
            refusal_counts=self.counts,
            executor=SimpleNamespace(welcome=self._welcome),
        )
        self.reader = ProxyHeaderReader(cast("Any", context), RULES, peer, begin)
        self.reader.connection_made(cast("Any", self.transport))

    def _welcome(self) -> None:
        self.welcomes += 1


@pytest.mark.parametrize("behind", [b"", b"GET /"])
def test_the_connection_takes_over(behind: bytes) -> None:
    case = Case()
    assert case.reader in case.connections
    case.reader.data_received(HEADER[:9])
    assert case.transport.protocol is None
    case.reader.data_received(HEADER[9:] + behind)
    connection = case.transport.protocol
    assert connection.client == ("192.0.2.1", 4711)
    assert connection.transport is case.transport
    assert connection.data == behind
    assert case.welcomes == (not behind)  # the loop polls once more for a request that has not come yet
    assert not case.connections
    assert case.log == case.transport.done == []


@pytest.mark.parametrize("peer", [PEER, ""])
def test_without_an_address_the_peer_is_the_client(peer: object) -> None:
    case = Case(peer)
    case.reader.data_received(b"PROXY UNKNOWN\r\n")
    assert case.transport.protocol.client == peer


@pytest.mark.parametrize("peer", [("192.0.2.9", 5), ("::1", 5, 0, 0), ("::ffff:192.0.2.9", 5, 0, 0)])
def test_another_peer_is_closed_before_it_sends(peer: tuple[object, ...]) -> None:
    case = Case(peer)
    assert case.transport.done == ["abort"]
    assert case.log == [f"refused {str(peer[0]).removeprefix('::ffff:')}: it is not in proxy_allow_ips"]
    case.reader.data_received(HEADER)
    case.reader.check_timeouts(time.monotonic() + 10)
    assert case.reader.eviction_rank(time.monotonic() + 10) is None
    assert case.transport.protocol is None
    assert len(case.log) == 1
    case.reader.connection_lost(None)
    assert not case.connections


def test_a_mapped_address_is_trusted_as_its_ipv4_address() -> None:
    assert Case(("::ffff:127.0.0.1", 5, 0, 0)).transport.done == []


def test_nothing_is_read_behind_a_malformed_header() -> None:
    case = Case()
    case.reader.data_received(b"GET / HTTP/1.1\r\n")
    case.reader.data_received(HEADER)
    assert case.transport.protocol is None
    assert case.transport.done == ["abort"]
    assert case.log == ["refused 127.0.0.1: its first bytes are not a PROXY protocol header"]
    assert case.counts.closed == {"proxy_failures": 1}


def test_a_socket_that_has_no_address_any_more() -> None:
    def fail(_client: object) -> asyncio.Protocol:
        raise OSError

    case = Case(begin=fail)
    case.reader.data_received(HEADER)
    assert case.transport.done == ["reset", "abort"]


def test_the_end_of_the_stream() -> None:
    silent, begun = Case(), Case()
    assert not silent.reader.eof_received()
    assert silent.log == []
    begun.reader.data_received(b"P")
    assert not begun.reader.eof_received()
    assert begun.log == ["refused 127.0.0.1: it has ended the connection within its PROXY protocol header"]


@pytest.mark.parametrize("data", [b"", b"PROXY"])
def test_the_header_timeout(data: bytes) -> None:
    case = Case()
    if data:
        case.reader.data_received(data)
    case.reader.check_timeouts(time.monotonic() + 1.9)
    assert case.transport.done == []
    case.reader.check_timeouts(time.monotonic() + 2.1)
    assert case.transport.done == ["abort"]
    assert case.log == ["refused 127.0.0.1: its PROXY protocol header did not arrive within 2 s"]


def test_the_rank_for_eviction() -> None:
    case = Case()
    now = time.monotonic()
    assert case.reader.eviction_rank(now) is None
    rank = case.reader.eviction_rank(now + 1)
    assert rank is not None
    assert rank[0] == 0
    case.reader.data_received(b"PROXY")
    assert case.reader.eviction_rank(now + 1) == rank
    case.reader.evict()
    assert case.transport.done == ["reset", "abort"]
    assert case.reader.eviction_rank(now + 1) is None


def test_the_rules_of_settings() -> None:
    assert ProxyHeaderRules.of(Settings.of()) is None
    for value, versions in (("on", {V1, V2}), ("v1", {V1}), ("v2", {V2})):
        rules = ProxyHeaderRules.of(Settings.of(proxy_protocol=value, proxy_allow_ips="10.0.0.0/8"))
        assert rules is not None
        assert rules.versions == versions
        assert rules.peers.trusts("10.1.2.3")
        assert not rules.peers.trusts("127.0.0.1")
