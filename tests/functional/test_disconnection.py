"""Clients that leave while an application has nothing to send: the generator is closed, and the thread is free."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.conftest import Events
from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import Server
from tests.functional.support.wire import Client, encode_request


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return Pair(directory, "localhost")


@pytest.fixture(scope="module", params=[3, 0], ids=["threads", "inline"])
def server(request: pytest.FixtureRequest, server_env: dict[str, str], pair: Pair) -> Iterator[Server]:
    listen = ["127.0.0.1:0", "127.0.0.1:0:ssl"]
    arguments = ("--workers", "1", "--threads", str(request.param), *pair.arguments)
    with Server("tests.functional.support.applications:app", *arguments, listen=listen, env=server_env) as running:
        yield running


def test_generators_without_clients_are_closed(
    server: Server, pair: Pair, events: Events, request: pytest.FixtureRequest
) -> None:
    """As many as there are threads: the server would be deaf."""
    kind = request.node.name
    plain, upgrading, secure = (
        Client(("127.0.0.1", server.port)),
        Client(("127.0.0.1", server.port)),
        TlsClient(server.ports[1], pair),
    )
    clients: dict[str, Client] = {"plain": plain, "upgrading": upgrading, "tls": secure}
    for name, client in clients.items():
        fields = [("Connection", "upgrade"), ("Upgrade", "x")] if name == "upgrading" else []
        client.send(encode_request("GET", f"/nothing-yet/{name}-{kind}", fields))
        events.wait_for(f"begin {name}-{kind}", 20.0)
    for client in clients.values():
        client.close()
    for name in clients:
        events.wait_for(f"close {name}-{kind}", 30.0)
    with server.client() as client:
        assert client.get("/hello").body == b"hello\n"


def test_a_half_closed_client_gets_its_answer(server: Server, events: Events, request: pytest.FixtureRequest) -> None:
    kind = request.node.name
    with server.client() as client:
        client.send(encode_request("GET", f"/nothing-yet/{kind}?count=30"))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read().body == b"done\n"
    events.wait_for(f"close {kind}")
