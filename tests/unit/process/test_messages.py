"""starman.process.messages: every message survives encoding, and fits into a packet."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.process import observer_messages
from starman.process.message_base import PACKET_BYTES, Message
from starman.process.messages import (
    Approved,
    Draining,
    DrainRequest,
    Failed,
    Handled,
    Loaded,
    Notice,
    Ready,
    Recycle,
    Reopen,
    Reopened,
    Role,
    ServerEvent,
    SlowRequest,
    Spawn,
    Spawned,
    WorkerEnded,
    WorkersChanged,
    decode,
    encode,
)


@pytest.mark.parametrize(
    "message",
    [
        *(Spawn(Role.WORKER, 3, 7), Spawn(Role.MOLD, 0, settings="00ff"), Spawned(4711), Loaded(), Ready()),
        *(Recycle("it is old"), Draining(), DrainRequest("harakiri")),
        *(Reopen(), Reopened(), Approved("00ff", "one\ntwo"), Failed("one", "two\n3")),
        *(Spawn(Role.HOOKS, 0), Spawn(Role.STARTING_HOOKS, 0), Notice("hooks do not run"), Handled(), ServerEvent("ready")),
        Spawn(Role.OBSERVER, 0, settings="00ff"),
        *(observer_messages.Alive(), observer_messages.Leaving(), observer_messages.StatusQuery()),
        *(observer_messages.StacksQuery(), observer_messages.StacksQuery(force=True), observer_messages.StacksReport("*")),
        *(observer_messages.Trace(""), observer_messages.Trace('[{"paths": ["/a b"]}]'), observer_messages.TraceSource()),
        *(observer_messages.Scale(3), observer_messages.Restart(), observer_messages.Stop()),
        observer_messages.StatusReport("{'a': 1}"),
        *(SlowRequest("GET /", 2.5, "one\ntwo"), SlowRequest("GET /", 2.5, "one", timed_out=True)),
        *(WorkersChanged(2, 3), WorkerEnded(1, 4711, 9, expected=False), WorkerEnded(2, 4712, None, expected=True)),
    ],
    ids=repr,
)
def test_round_trip(message: Message) -> None:
    assert decode(encode(message)) == message


def test_values_are_equal_by_class_and_fields() -> None:
    assert Spawned(1) == Spawned(1)
    assert Spawned(1) != Spawned(2)
    assert Ready() != Loaded()
    assert hash(Spawn(Role.MOLD, 0)) == hash(Spawn(Role.MOLD, 0))
    assert repr(Spawned(7)) == "Spawned(pid=7)"


@given(st.text(), st.text())
def test_any_failure_survives(message: str, details: str) -> None:
    failed = decode(encode(Failed(message, details)))
    assert isinstance(failed, Failed)
    assert failed.message == message.replace("\0", "?").encode("utf-8", "backslashreplace").decode()
    assert failed.details == details.replace("\0", "?").encode("utf-8", "backslashreplace").decode()


@pytest.mark.parametrize("character", ["x", "é", "\U0001f40d", "\udc80", "\0"])
def test_a_long_traceback_keeps_both_ends_and_fits(character: str) -> None:
    packet = encode(Failed("m" * 100_000, "first" + character * 1_000_000 + "last"))
    assert len(packet) <= PACKET_BYTES
    failed = decode(packet)
    assert isinstance(failed, Failed)
    assert failed.details.startswith("first")
    assert failed.details.endswith("last")
    assert "bytes left out" in failed.details
    assert failed.message.startswith("mmm")


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"Nothing",
        b"Spawn\0worker\0three\0000\0",
        b"Spawn\0king\0003\0000\0",
        b"Spawned",
        b"Spawned\0-1",
        b"Spawned\0" + str(1 << 31).encode(),
        b"Ready\0x",
        b"Failed\0one",
        b"SlowRequest\0GET /\0nan\0one\0000",
        b"SlowRequest\0GET /\0-1\0one\0000",
        b"SlowRequest\0GET /\0inf\0one\0000",
        b"SlowRequest\0GET /\0001e300\0one\0000",
        b"SlowRequest\0GET /\0001",
        b"\xff",
    ],
)
def test_what_is_no_message_is_a_value_error(packet: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011
        decode(packet)


def test_a_slow_request_is_short_and_printable_whatever_has_sent_it() -> None:
    packet = "\0".join(
        ("SlowRequest", "GET /\x1b[2J\n" + "x" * 9000, "2.5", "first\n\x1b]0;title\x07\n" + "\x1b" * 9000 + "\nlast", "1")
    )
    slow = decode(packet.encode())
    assert isinstance(slow, SlowRequest)
    assert slow.line.startswith("GET /\\x1b[2J x")
    assert len(slow.line) <= 2000
    assert slow.line.isprintable()
    assert slow.stack.startswith("first\n\\x1b]0;title\\x07\n")
    assert slow.stack.endswith("\nlast")
    assert len(slow.stack) <= 4000
    assert all(line.isprintable() for line in slow.stack.splitlines())
    assert len(encode(SlowRequest("x" * 100_000, 1.0, "\0" * 100_000))) <= PACKET_BYTES
