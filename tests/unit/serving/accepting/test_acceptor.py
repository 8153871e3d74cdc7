"""serving.accepting.acceptor: errors of accept, balance among workers. Whole services test accepting
itself."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from starman.config.kinds import AUTO
from starman.serving.accepting import acceptor as module
from starman.serving.accepting import connection_factory
from starman.serving.accepting.acceptor import Acceptor
from starman.serving.accepting.connection_factory import ConnectionFactory
from starman.serving.connections.connection import Connection
from starman.serving.resource_shortage import ShortageLog
from tests.functional.support.wire import NoResponseError
from tests.unit.serving.running import SECONDS, Running

NUMBER = 7


class Listener:
    """A listener at which every accept lacks a descriptor. Counts the attempts."""

    def __init__(self) -> None:
        self.tries = 0

    def accept(self) -> Any:
        self.tries += 1
        raise OSError(errno.EMFILE, "Too many open files")

    def fileno(self) -> int:
        return NUMBER


class Watch:
    """An epoll that notes in which wait queues the worker is."""

    def __init__(self) -> None:
        self.lines: set[int] = set()
        self.joined = asyncio.Event()

    def join_wait_queue(self, descriptor: int) -> None:
        self.lines.add(descriptor)
        self.joined.set()

    def leave_wait_queue(self, descriptor: int) -> None:
        self.lines.discard(descriptor)


def _connections(context: Any) -> ConnectionFactory:
    return ConnectionFactory(context, threads=1, multiprocess=True, tls_context=cast("Any", "TLS"))


def crowded_acceptor(
    listener: Listener, watch: Watch, *, wait: float = 60.0, own: int = 0, fewest: int | None = None
) -> Acceptor:
    """An acceptor with requests and siblings that wait long for a thread, by default. `own` is its number of
    connections."""
    pool = SimpleNamespace(longest_wait=lambda now: wait, welcome=lambda: None)
    context = SimpleNamespace(
        executor=pool,
        connections=set(range(own)),
        doomed=False,
        draining=False,
        on_harakiri=None,
        max_connections=AUTO,
        shortages=ShortageLog(),
    )
    siblings = SimpleNamespace(
        publish_load=lambda connections, crowded: None, fewest_connections=lambda: fewest, is_alone=lambda: False
    )
    monitor = SimpleNamespace(siblings=siblings, harakiri=SimpleNamespace())
    made = Acceptor(cast("Any", context), _connections(context), cast("Any", monitor))
    made._epoll = cast("Any", watch)
    made._listeners[NUMBER] = cast("Any", (listener, None))
    return made


@pytest.mark.parametrize(
    ("wait", "own", "fewest", "taken"),
    [
        (0.0, 5, 5, 3),  # as many as give no lead
        (0.0, 5, 2, 1),  # it has a lead, but was woken: one in any case
        (0.0, 5, 90, 16),
        (0.0, 5, None, 16),  # all siblings are crowded
        (0.01, 5, 90, 1),  # its own threads are busy
        (0.01, 5, None, 1),  # all threads of all workers are busy: take one, because a sibling may be free in a moment
    ],
)
def test_how_many_are_taken_at_once(
    wait: float, own: int, fewest: int | None, taken: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        acceptor = crowded_acceptor(Listener(), Watch(), wait=wait, own=own, fewest=fewest)
        asked: list[int] = []
        monkeypatch.setattr(Acceptor, "_accept", lambda self, listener, factory, most: bool(asked.append(most)))
        acceptor._accept_when_woken(NUMBER)
        assert asked == [taken]

    asyncio.run(main())


def test_a_paused_listener_is_not_polled_by_rebalancing(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def main() -> None:
        monkeypatch.setattr(module, "_PAUSE", 60.0)
        listener, watch = Listener(), Watch()
        acceptor = crowded_acceptor(listener, watch)
        acceptor._accept_when_woken(NUMBER)
        for _ in range(3):
            acceptor._rebalance_now()
        acceptor._rebalance_timer.cancel()  # type: ignore[union-attr]
        acceptor._rebalance_timer = None
        acceptor.tick()
        assert watch.lines == set()
        # A wake-up that was already on its way.
        acceptor._accept_when_woken(NUMBER)
        assert watch.lines == set()
        assert listener.tries == 1
        acceptor._context.shortages.close()
        assert capfd.readouterr().err.count("Too many open files") == 1
        acceptor._rebalance_timer.cancel()

    asyncio.run(main())


def test_a_paused_listener_is_polled_again_after_the_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        monkeypatch.setattr(module, "_PAUSE", 0.01)
        listener, watch = Listener(), Watch()
        acceptor = crowded_acceptor(listener, watch)
        for tries in (1, 2):
            watch.joined.clear()
            acceptor._accept_when_woken(NUMBER)
            assert (watch.lines, listener.tries) == (set(), tries)
            await asyncio.wait_for(watch.joined.wait(), SECONDS)
            assert watch.lines == {NUMBER}

    asyncio.run(main())


def test_a_worker_that_is_alone_polls_with_its_loop_until_it_has_siblings(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            watch, number = Watch(), listener.fileno()
            acceptor = crowded_acceptor(Listener(), watch, wait=0.0)
            siblings: Any = acceptor._siblings
            taken: list[int] = []
            acceptor._listeners = {number: (listener, cast("Any", None))}

            def accept(*_: object) -> bool:
                with contextlib.suppress(BlockingIOError):
                    taken.append(listener.accept()[0].detach())
                return True

            listener.setblocking(False)
            monkeypatch.setattr(Acceptor, "_accept", accept)

            async def is_taken(wanted: int) -> bool:
                with socket.create_connection(listener.getsockname()):
                    until = time.monotonic() + SECONDS
                    while len(taken) < wanted and time.monotonic() < until:
                        await asyncio.sleep(0.001)
                return len(taken) == wanted

            acceptor._watch_listener(number)
            assert watch.lines == {number}
            for turn in range(3):
                siblings.is_alone = lambda: True
                for _ in range(module._ALONE_TICKS - 1):
                    acceptor.tick()
                    assert watch.lines == {number}, "others may be about to start"
                for _ in range(2):
                    acceptor.tick()
                    assert watch.lines == set()
                    assert await is_taken(len(taken) + 1)
                # A wake-up that was already on its way, and the rebalancing that the crowded worker has put off.
                acceptor._accept_when_woken(number) if turn == 1 else acceptor._rebalance_now()
                assert watch.lines == set()
                siblings.is_alone = lambda: False
                acceptor.tick()
                assert watch.lines == {number}
                assert not asyncio.get_running_loop().remove_reader(number), "both would take"
            for descriptor in taken:
                os.close(descriptor)

    asyncio.run(main())


@pytest.mark.parametrize("use_uvloop", [True, False])
def test_a_connection_that_cannot_be_made_costs_no_other(
    use_uvloop: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A defect of starman in the making of the first two connections costs only these two."""
    failures = iter((ZeroDivisionError("ours"), ZeroDivisionError("ours")))

    class Broken(Connection):
        __slots__ = ()

        def __init__(self, *arguments: Any) -> None:
            for failure in failures:
                raise failure
            super().__init__(*arguments)

    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [b"made"]

    monkeypatch.setattr(connection_factory, "Connection", Broken)
    with Running(application, use_uvloop=use_uvloop) as running:
        for _ in range(2):
            with running.client() as client:
                client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                with pytest.raises(NoResponseError):
                    client.read()
        with running.client() as client:
            assert client.get("/").body == b"made"
    assert capfd.readouterr().err.count("a connection could not be made") == 2


@pytest.mark.parametrize("number", [errno.EBADF, errno.EEXIST, errno.ENOTSOCK])
@pytest.mark.parametrize("where", ["accept", "connect", "join_wait_queue", "watch"])
def test_an_error_that_comes_back_has_the_process_replaced(number: int, where: str) -> None:
    """For example after an application has closed a descriptor of the loop: no further connection would be served."""

    def fail(*arguments: object) -> Any:
        raise OSError(number, os.strerror(number))

    async def fail_later() -> None:
        fail()

    async def main() -> None:
        acceptor = crowded_acceptor(Listener(), Watch())
        given_up: list[str] = []
        acceptor._harakiri.give_up = given_up.append  # type: ignore[union-attr, method-assign]
        for _ in range(3):
            if where == "accept":
                accepting = cast("Any", SimpleNamespace(accept=fail, fileno=lambda: NUMBER))
                assert not acceptor._accept(accepting, cast("Any", None))
            elif where == "connect":
                with socket.socket() as sock:
                    acceptor._pending += 1
                    acceptor._step(fail_later(), sock)
                    assert sock.fileno() == -1
            elif where == "join_wait_queue":
                acceptor._epoll = cast("Any", SimpleNamespace(join_wait_queue=fail))
                acceptor._watch_listener(NUMBER)
            else:
                acceptor._give_up(module._NO_WAIT, OSError(number, os.strerror(number)))
        assert len(given_up) == 1
        assert os.strerror(number) in given_up[0]
        assert acceptor._context.doomed
        assert acceptor._context.draining
        assert acceptor._pending == 0

    asyncio.run(main())


def test_a_client_that_has_gone_again_is_no_reason(capfd: pytest.CaptureFixture[str]) -> None:
    async def fail(number: int) -> None:
        raise OSError(number, os.strerror(number))

    async def main() -> None:
        acceptor = crowded_acceptor(Listener(), Watch())
        for number in (errno.ENOTCONN, errno.ECONNRESET, errno.EINVAL):
            with socket.socket() as sock:
                acceptor._pending += 1
                acceptor._step(fail(number), sock)
        assert not acceptor._context.doomed

    asyncio.run(main())
    assert capfd.readouterr().err == ""


def test_without_others_it_is_said_once_in_a_while(capfd: pytest.CaptureFixture[str]) -> None:
    """`serve` has no master that could replace the process."""

    async def main() -> None:
        acceptor = crowded_acceptor(Listener(), Watch())
        acceptor._siblings = acceptor._harakiri = None
        for _ in range(3):
            acceptor._give_up(module._NO_WAIT, OSError(errno.EBADF, os.strerror(errno.EBADF)))
        assert not acceptor._context.doomed

    asyncio.run(main())
    assert (
        capfd.readouterr().err.count("this server cannot continue, and should be restarted: it cannot wait for connections") == 1
    )
