"""starman.process.worker.forksafety: descriptors that change during the search. tests/functional/test_preload.py
has the rest."""

from __future__ import annotations

import os
import socket

import pytest

from starman.process.worker import forksafety as module
from starman.process.worker.forksafety import fork_hazards


def test_naming_a_socket_leaves_it_open() -> None:
    known = module.open_sockets()
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        found = [line for line in fork_hazards(known) if "socket that listens" in line]
        assert len(found) == 1
        assert f"127.0.0.1:{listening.getsockname()[1]} (descriptor {listening.fileno()})" in found[0]
        assert os.fstat(listening.fileno())


def test_a_descriptor_that_a_thread_closes_meanwhile_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    read_fd, write_fd = os.pipe()
    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(module, "_descriptors", lambda: iter([(1_000_000, "socket:[1]"), (read_fd, "socket:[2]")]))
    assert [line for line in fork_hazards(frozenset()) if "left open" in line] == []
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(read_fd)
    os.close(write_fd)
