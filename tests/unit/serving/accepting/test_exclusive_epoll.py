"""starman.serving.accepting.exclusive_epoll: of several waiters, one is woken, and then the next one."""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import select
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator

import pytest

from starman.serving.accepting import exclusive_epoll
from starman.serving.accepting.exclusive_epoll import ExclusiveEpoll

pytestmark = pytest.mark.skipif(not exclusive_epoll.available, reason="needs EPOLLEXCLUSIVE, which is Linux's")

SECONDS = 20.0


def _call(callback: Callable[..., object], argument: object) -> None:
    callback(argument)


def _never(error: Exception) -> None:
    raise AssertionError(error)


class Waiting:
    """To the kernel, one of several processes."""

    def __init__(self, name: str, woken: queue.Queue[tuple[str, int]]) -> None:
        self.watch = ExclusiveEpoll(
            lambda descriptor: woken.put((name, descriptor)), lambda ready, descriptor: ready(descriptor), lambda error: None
        )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        made.setblocking(False)
        yield made


@pytest.fixture
def woken() -> queue.Queue[tuple[str, int]]:
    return queue.Queue()


@pytest.fixture
def three(woken: queue.Queue[tuple[str, int]]) -> Iterator[list[Waiting]]:
    made = [Waiting(name, woken) for name in "abc"]
    yield made
    for each in made:
        each.watch.stop()


def connect(listener: socket.socket) -> None:
    with socket.create_connection(listener.getsockname()):
        pass


def test_each_in_its_turn(listener: socket.socket, three: list[Waiting], woken: queue.Queue[tuple[str, int]]) -> None:
    by_name = dict(zip("abc", three, strict=True))
    for each in three:
        each.watch.join_wait_queue(listener.fileno())
    # One of five: a thread that gets no processor at that moment is not waiting yet, and does not count as a waiter.
    assert any(take_turns(listener, by_name, woken) for _ in range(5))


def take_turns(listener: socket.socket, by_name: dict[str, Waiting], woken: queue.Queue[tuple[str, int]]) -> bool:
    """Connect 60 times. Whether each of three has accepted its share, and few were woken in vain."""
    accepted: Counter[str] = Counter()
    times = 0
    for _ in range(60):
        connect(listener)
        while True:
            name, descriptor = woken.get(timeout=SECONDS)
            times += 1
            assert descriptor == listener.fileno()
            with contextlib.suppress(BlockingIOError):
                listener.accept()[0].close()
                accepted[name] += 1
                by_name[name].watch.join_wait_queue(listener.fileno())
                break
            by_name[name].watch.join_wait_queue(listener.fileno())
    # A thread that is not waiting yet may see the connection, too: hence not 20 and 60.
    return len(accepted) == 3 and all(count >= 10 for count in accepted.values()) and times < 90


def test_an_epoll_that_has_left_the_queue_is_not_woken(
    listener: socket.socket, three: list[Waiting], woken: queue.Queue[tuple[str, int]]
) -> None:
    for each in three:
        each.watch.join_wait_queue(listener.fileno())
        each.watch.join_wait_queue(listener.fileno())  # once is enough
    three[0].watch.leave_wait_queue(listener.fileno())
    three[0].watch.leave_wait_queue(listener.fileno())
    connect(listener)
    assert woken.get(timeout=SECONDS)[0] == "b"


def test_an_epoll_that_joins_later_finds_a_waiting_connection(
    listener: socket.socket, three: list[Waiting], woken: queue.Queue[tuple[str, int]]
) -> None:
    connect(listener)
    three[2].watch.join_wait_queue(listener.fileno())
    assert woken.get(timeout=SECONDS)[0] == "c"


def test_a_closed_loop_ends_the_thread(listener: socket.socket) -> None:
    said: queue.Queue[str] = queue.Queue()

    def post(ready: object, descriptor: int) -> None:
        said.put("posted")
        raise RuntimeError("the loop is closed")

    watch = ExclusiveEpoll(lambda descriptor: None, post, _never)
    watch.join_wait_queue(listener.fileno())
    connect(listener)
    assert said.get(timeout=SECONDS) == "posted"
    watch.stop()


def test_a_listener_that_is_closed_while_it_is_reported_is_left_without_an_error(woken: queue.Queue[tuple[str, int]]) -> None:
    """A drain closes listeners while the thread waits: it must live on, and report the other listeners."""
    held, told = threading.Event(), threading.Event()
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(4)]
        first, *others, last = listeners

        def post(_: object, descriptor: int) -> None:
            if descriptor == first.fileno():
                told.set()
                assert held.wait(SECONDS)
            elif others:
                # Both were reported at once: the second one is closed before its turn.
                listener = next(each for each in others if each.fileno() != descriptor)
                others.clear()
                listener.close()
            woken.put(("", descriptor))

        watch = ExclusiveEpoll(lambda descriptor: None, post, _never)
        stack.callback(watch.stop)
        stack.callback(held.set)
        for listener in listeners[:3]:
            connect(listener)
        watch.join_wait_queue(first.fileno())
        assert told.wait(SECONDS)
        for listener in others:
            watch.join_wait_queue(listener.fileno())
        held.set()
        for _ in range(3):
            woken.get(timeout=SECONDS)
        watch.join_wait_queue(last.fileno())
        connect(last)
        assert woken.get(timeout=SECONDS) == ("", last.fileno())


def test_a_thread_that_cannot_wait_any_more_says_so(listener: socket.socket) -> None:
    """The epoll was closed, or a listener was while the kernel still reports it: the thread must not spin."""
    said: queue.Queue[object] = queue.Queue()

    def lost(error: Exception) -> None:
        said.put(error)

    def post(callback: object, argument: object) -> None:
        if callback is lost:
            said.put(argument)

    # A duplicate keeps the socket open, so the kernel goes on reporting the closed descriptor.
    watched = listener.dup()
    watch = ExclusiveEpoll(lambda descriptor: None, post, lost)
    watch.join_wait_queue(watched.fileno())
    watched.close()
    connect(listener)
    error = said.get(timeout=SECONDS)
    assert isinstance(error, OSError)
    assert error.errno == errno.EBADF
    assert said.empty()
    for descriptor in watch.descriptors():
        os.close(descriptor)
    watch._epoll = select.epoll()
    watch._epoll.close()


def test_what_cannot_be_joined_is_an_error(listener: socket.socket) -> None:
    watch = ExclusiveEpoll(lambda descriptor: None, lambda *_: None, lambda error: None)
    watch.join_wait_queue(listener.fileno())
    watch.join_wait_queue(listener.fileno())
    assert watch.leave_wait_queue(listener.fileno())
    assert not watch.leave_wait_queue(listener.fileno())
    closed = listener.dup()
    number = closed.fileno()
    closed.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        watch.join_wait_queue(number)
    watch.stop()
