"""starman.process.channel: messages, descriptors and the end of file."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Iterator

import pytest

from starman.process.channel import Channel
from starman.process.message_base import Message
from starman.process.messages import Failed, Ready, Reopen, Role, Spawn, Spawned
from tests.unit.process.forked import run_forked

Pair = tuple[Channel, Channel]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = Channel.pair()
    yield ends
    for end in ends:
        end.close()


def received(channel: Channel) -> Message:
    """The next message, which brings no descriptor."""
    arrived = channel.receive_message()
    assert arrived is not None
    message, fds = arrived
    assert fds == []
    return message


def test_hazard_06_messages_keep_their_borders(pair: Pair) -> None:
    for number in range(20):
        assert pair[0].send(Spawned(number))
    assert [received(pair[1]) for _ in range(20)] == [Spawned(number) for number in range(20)]


def test_both_directions(pair: Pair) -> None:
    pair[0].send(Ready())
    pair[1].send(Spawn(Role.WORKER, 1))
    assert received(pair[1]) == Ready()
    assert received(pair[0]) == Spawn(Role.WORKER, 1)


def test_the_largest_message_passes(pair: Pair) -> None:
    failed = Failed("m" * 9000, "d" * 1_000_000)
    assert pair[0].send(failed)
    message = received(pair[1])
    assert isinstance(message, Failed)
    assert message.details.startswith("ddd")


def test_receive_if_any_does_not_wait(pair: Pair) -> None:
    with pytest.raises(BlockingIOError):
        pair[0].receive_if_any()
    pair[1].send(Ready())
    assert pair[0].receive_if_any() == (Ready(), [])


def test_end_of_file_comes_after_what_was_sent(pair: Pair) -> None:
    pair[0].send(Ready())
    pair[0].close()
    assert received(pair[1]) == Ready()
    assert pair[1].receive_message() is None
    assert pair[1].receive_if_any() is None


def test_sending_to_a_closed_end_is_not_an_error(pair: Pair) -> None:
    pair[1].close()
    assert not pair[0].send(Ready())


def test_sending_to_a_process_that_never_reads_does_not_wait(pair: Pair) -> None:
    sent = 0
    while pair[0].send(Spawned(sent)):
        sent += 1
    assert sent > 64


def test_hazard_06_received_descriptors_are_close_on_exec(pair: Pair) -> None:
    ours, theirs = Channel.pair()
    os.set_inheritable(theirs.fileno(), True)
    assert pair[0].send(Spawn(Role.WORKER, 1), [theirs.fileno()])
    theirs.close()
    arrived = pair[1].receive_message()
    assert arrived is not None
    message, (fd,) = arrived
    assert message == Spawn(Role.WORKER, 1)
    assert not os.get_inheritable(fd)
    other = Channel.of_descriptor(fd)
    other.send(Ready())
    assert ours.receive_message() == (Ready(), [])
    other.close()
    assert ours.receive_message() is None
    ours.close()


def test_both_ends_are_close_on_exec(pair: Pair) -> None:
    assert not any(os.get_inheritable(end.fileno()) for end in pair)


def test_a_packet_that_is_no_message_is_a_value_error() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with left:
        channel = Channel(right)
        left.send(b"what?")
        with pytest.raises(ValueError, match="no message is called"):
            channel.receive_message()
        channel.close()


def test_hazard_07_abandoning_in_a_fork_closes_the_number_once(pair: Pair) -> None:
    def in_child() -> str:
        fd = pair[0].fileno()
        pair[0].abandon()
        reused = os.open("/dev/null", os.O_RDONLY)
        assert reused == fd
        # Neither a second call nor the destructor may close the new file with this number.
        pair[0].abandon()
        pair[0].close()
        return f"{os.fstat(fd).st_rdev == os.stat('/dev/null').st_rdev}"

    assert run_forked(in_child) == "True"
    # The parent's end stays open.
    pair[0].send(Ready())
    assert received(pair[1]) == Ready()


def test_messages_arrive_though_their_sender_left_messages_unread() -> None:
    ours, theirs = Channel.pair()
    ours.send(Reopen())
    theirs.send(Failed("first"))
    theirs.send(Failed("second"))
    theirs.close()
    for reason in ("first", "second"):
        heard = ours.receive_with_sender()
        assert heard is not None
        assert heard[0] == Failed(reason)
    assert ours.receive_with_sender() is None
    ours.close()


@pytest.mark.parametrize("packet", [b"what?", b"Spawn\0nothing\0001\0001\0", b"\xff", b"x" * 40_000])
def test_what_is_no_message_leaves_no_descriptor(pair: Pair, packet: bytes) -> None:
    before = os.listdir("/proc/self/fd")
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0, 1]))]
    pair[0]._socket.sendmsg([packet], rights)
    with pytest.raises(ValueError):  # noqa: PT011 - each has a reason of its own
        pair[1].receive_message()
    assert os.listdir("/proc/self/fd") == before
