"""starman.observer.metrics.listen_backlog: connections that wait for a listener are counted by the kernel."""

from __future__ import annotations

import contextlib
import socket
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from starman.observer.metrics.listen_backlog import note_listeners, read_backlogs

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells the backlog")


def listening(sock: socket.socket, name: str) -> Any:
    return SimpleNamespace(socket=sock, url=name)


def test_waiting_connections_are_counted_for_both_kinds_of_sockets(tmp_path: Any) -> None:
    path = str(tmp_path / "socket")
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=7))
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(path)
        unix.listen(5)
        for _ in range(3):
            stack.enter_context(socket.create_connection(tcp.getsockname()))
        for _ in range(2):
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        watched = note_listeners([listening(tcp, "t"), listening(unix, "u")])
        assert read_backlogs(watched) == [("t", 3, 7), ("u", 2, 5)]
        for _ in range(3):
            stack.enter_context(tcp.accept()[0])
        assert read_backlogs(watched) == [("t", 0, 7), ("u", 2, 5)]


def test_a_closed_listener_has_no_figure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.create_server(("::1", 0), family=socket.AF_INET6) as six:
        watched = note_listeners([listening(tcp, "t"), listening(six, "6")])
        assert [found[0] for found in read_backlogs(watched)] == ["t", "6"]
    assert read_backlogs(watched) == []
    assert note_listeners([listening(tcp, "t")]) == [], "the server stops"
    assert read_backlogs([("u", socket.AF_UNIX, watched[0][2])]) == []
