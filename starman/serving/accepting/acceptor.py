"""Accepts a worker's connections on the listeners that it shares with its siblings, until the drain. Loop only."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any

from starman import log
from starman.log.tracebacks import format_exception
from starman.serving.accepting import exclusive_epoll
from starman.serving.accepting.connection_factory import ConnectionFactory, MakeProtocol
from starman.serving.accepting.connection_limit import ConnectionLimit
from starman.serving.accepting.exclusive_epoll import ExclusiveEpoll
from starman.serving.accepting.listening import Listening, ListeningSocket, has_waiting_connection
from starman.serving.context import ServiceContext
from starman.serving.monitor import Monitor

# At most this many connections are accepted per wake-up and listener; with siblings, only while this worker gets no
# lead.
_MOST_AT_ONCE = 16

# How long (seconds) a listener is not polled when no descriptor is left for a connection.
_PAUSE = 0.5

# The same (seconds) when all connections are busy, or when an idle one was just closed to free a descriptor.
_FULL_PAUSE = 0.05

# A worker is crowded when a request has waited this long (seconds) for a thread. It checks again after the same time.
_CROWDED = 0.005

# A worker has a lead with this many connections more than a sibling. Then it accepts one connection in this time
# (seconds).
_LEAD = 3
_LEAD_PAUSE = 0.002

# Errors that return with each connection, because a descriptor was closed, are logged once in this time (seconds).
_TELL_SECONDS = 10.0
_NO_WAIT = "it cannot wait for connections"
# The errors of accept(2), and of the loop, after which this process cannot accept connections any more.
_FOR_EVER = frozenset((errno.EBADF, errno.EEXIST, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP))

# A worker is alone after this many ticks without siblings: those that start together with it may be slower.
_ALONE_TICKS = 4


class Acceptor:
    """Accepts connections on all listeners of a worker. Loop only.

    It calls accept(2), because the loop's `create_server` does not fit: its close unlinks a UNIX path that is shared
    (hazard 12), loses connections that were just accepted (asyncio's own loop), and leaves those in the kernel's queue
    (hazard 13).

    With siblings, an `ExclusiveEpoll` wakes one worker at a time, and a crowded worker lets other workers go first. A
    worker without siblings polls with the loop itself (`add_reader`), which saves waking a thread for each connection.
    """

    __slots__ = (
        "_alone",
        "_connection_factory",
        "_context",
        "_epoll",
        "_harakiri",
        "_limit",
        "_listeners",
        "_loop",
        "_paused",
        "_pending",
        "_rebalance_timer",
        "_siblings",
        "_ticks_alone",
        "_told_at",
    )

    def __init__(
        self,
        context: ServiceContext,
        connections: ConnectionFactory,
        monitor: Monitor | None = None,
    ) -> None:
        """`monitor` reports on the other workers on the same listeners; None if there can be none."""
        self._context = context
        self._limit = ConnectionLimit(context, context.max_connections)
        self._siblings = None if monitor is None else monitor.siblings
        self._harakiri = None if monitor is None else monitor.harakiri
        self._epoll: ExclusiveEpoll | None = None
        self._alone = False  # whether there were no siblings at the last tick
        self._ticks_alone = 0
        self._rebalance_timer: asyncio.TimerHandle | None = None
        self._connection_factory = connections
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[int, tuple[socket.socket, MakeProtocol]] = {}
        # The listeners that are not polled for a while, because no descriptor or no connection is free.
        self._paused: set[int] = set()
        # How many accepted sockets are not connections yet.
        self._pending = 0
        self._told_at = -_TELL_SECONDS

    def start(self, listeners: Sequence[Listening]) -> None:
        """Begin to accept. Uses duplicates of the listeners' sockets: the caller keeps its own."""
        if self._siblings is not None and exclusive_epoll.available:
            executor = self._context.executor
            try:
                self._epoll = ExclusiveEpoll(self._accept_when_woken, executor.post, partial(self._give_up, _NO_WAIT))
            except (OSError, RuntimeError, MemoryError) as error:
                log.warning(f"connections are spread over the workers less evenly: {error}")
            else:
                executor.on_backlog = partial(self._rebalance_in, _CROWDED)
        for listener in listeners:
            sock = ListeningSocket(fileno=listener.socket.dup().detach())
            sock.setblocking(False)
            self._listeners[sock.fileno()] = sock, self._connection_factory.for_listener(sock, listener.secure)
            self._watch_listener(sock.fileno())

    def stop(self) -> None:
        """Accept the connections in the kernel's queue, then no more: they may have sent a request already (hazard
        13).

        A doomed process leaves them to the other workers.
        """
        listeners, self._listeners = self._listeners, {}
        if self._rebalance_timer is not None:
            self._rebalance_timer.cancel()
        for descriptor, (sock, make_protocol) in listeners.items():
            self._unwatch_listener(descriptor)
            # A connection for which the kernel has woken this worker is accepted here, too.
            self._accept(sock, make_protocol, 1 << 16)
            with contextlib.suppress(OSError):  # the application has closed the descriptor
                sock.close()
        if self._epoll is not None:
            self._epoll.stop()
            self._epoll = None

    def tick(self) -> None:
        """Check whether siblings have started or ended. Poll the listeners again in case a connection waits and no
        worker will wake: the worker that the kernel has woken for it was killed, or is doomed."""
        self._limit.tick()
        if self._epoll is None or self._siblings is None:
            return
        self._ticks_alone = self._ticks_alone + 1 if self._siblings.is_alone() else 0
        alone = self._ticks_alone >= _ALONE_TICKS
        if alone is self._alone and (alone or self._rebalance_timer is not None):
            return
        for descriptor in self._listeners:
            self._unwatch_listener(descriptor)
        self._alone = alone
        self._rebalance(self._listeners)

    def descriptors(self) -> list[int]:
        """Return the descriptors of the epoll that waits for connections in a thread."""
        return [] if self._epoll is None else self._epoll.descriptors()

    def resume(self) -> None:
        """Accept connections again: the process is not doomed any more."""
        for descriptor in self._listeners:
            self._watch_listener(descriptor)

    async def wait_for_pending(self) -> None:
        """Wait until every accepted socket is a connection, or closed. This takes a few rounds of the loop."""
        while self._pending:
            await asyncio.sleep(0)

    @property
    def busy(self) -> bool:
        """Whether accepted sockets are not connections yet."""
        return self._pending > 0

    def _watch_listener(self, descriptor: int) -> None:
        """Poll a listener, unless it is paused."""
        if descriptor in self._listeners and descriptor not in self._paused:
            try:
                if self._epoll is not None and not self._alone:
                    self._epoll.join_wait_queue(descriptor)
                else:
                    self._loop.add_reader(descriptor, self._accept, *self._listeners[descriptor])
            except (OSError, ValueError) as error:
                self._give_up(_NO_WAIT, error)

    def _unwatch_listener(self, descriptor: int) -> None:
        if self._epoll is not None and not self._alone:
            self._epoll.leave_wait_queue(descriptor)
        else:
            self._loop.remove_reader(descriptor)

    def _accept_when_woken(self, descriptor: int) -> None:
        """Accept after the kernel has woken this worker, and no other one, for a connection.

        A crowded worker accepts this connection only: a sibling may have free threads in a moment. Other workers
        accept more, as long as they get no lead over their siblings.
        """
        if descriptor in self._listeners and descriptor not in self._paused:
            assert self._siblings is not None
            fewest = self._siblings.fewest_connections()
            most = _MOST_AT_ONCE if fewest is None else min(fewest + _LEAD - self._connections, _MOST_AT_ONCE)
            if most < 1 or self._crowded:
                most = 1
            if self._accept(*self._listeners[descriptor], most):
                self._rebalance((descriptor,), accepted=True)

    def _accept(self, listener: socket.socket, make_protocol: MakeProtocol, most: int = _MOST_AT_ONCE) -> bool:
        """Accept up to `most` connections. Return False if the listener is not to be polled now.

        That is the case when this process is doomed, and when no descriptor or connection is free, or accepting fails.
        """
        for _ in range(most):
            if self._context.doomed:
                if listener.fileno() in self._listeners:
                    self._unwatch_listener(listener.fileno())  # polling is level-triggered: the loop would spin
                return False
            # A drain accepts everything in the kernel's queue, whatever the limit.
            if self._listeners and self._limit.is_reached(self._pending):
                if not has_waiting_connection(listener):
                    return True
                if not self._limit.make_room(self._pending):
                    self._pause_listener(listener, _FULL_PAUSE)
                    return False
            try:
                sock, peer = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return True
            except OSError as error:
                if error.errno in _FOR_EVER:
                    self._give_up("it cannot accept connections", error)
                    return False
                self._context.shortages.add("cannot accept a connection", str(error))
                no_descriptor = error.errno in (errno.EMFILE, errno.ENFILE)
                self._pause_listener(listener, _FULL_PAUSE if no_descriptor and self._limit.evict_one() else _PAUSE)
                return False
            self._limit.count_accepted(sock.fileno())
            sock.setblocking(False)  # the loops set TCP_NODELAY
            self._connect(partial(make_protocol, sock, peer), sock)
        return True

    def _pause_listener(self, listener: socket.socket, seconds: float) -> None:
        """Stop polling a listener for a while: polling is level-triggered, so the loop would spin."""
        self._paused.add(listener.fileno())
        self._unwatch_listener(listener.fileno())
        self._loop.call_later(seconds, self._resume_listener, listener.fileno())

    def _resume_listener(self, descriptor: int) -> None:
        self._paused.discard(descriptor)
        self._watch_listener(descriptor)

    def _connect(self, factory: Callable[[], asyncio.Protocol], sock: socket.socket) -> None:
        """Have the loop make a connection of a socket. The coroutine runs without a task, which would take 27,000
        instructions on 3.11, a twelfth of a connection with one request."""
        self._pending += 1
        self._context.executor.welcome()
        self._step(self._loop.connect_accepted_socket(factory, sock), sock)

    def _step(self, making: Coroutine[Any, Any, object], sock: socket.socket, _made: object = None) -> None:
        """Run the coroutine that makes a connection until it waits for a future, and again when the future is done."""
        waits = False
        try:
            future: asyncio.Future[object] = making.send(None)
            waits = True
            future.add_done_callback(partial(self._step, making, sock))
        except StopIteration:
            pass
        except OSError as error:
            sock.close()
            if error.errno in _FOR_EVER - {errno.EINVAL}:  # EINVAL: the client has left already (macOS)
                self._give_up("its event loop takes no connections", error)
        except Exception as error:  # a defect of starman must cost only this connection
            log.error(f"a connection could not be made\n{format_exception(error)}")
            sock.close()
        finally:
            if not waits:
                self._pending -= 1

    def _give_up(self, what: str, error: Exception) -> None:
        """No connection can be accepted any more: have this process replaced. Without a master, only log it."""
        reason = f"{what}: {error} (has the application closed a descriptor that is not its own?)"
        if self._harakiri is None:
            if time.monotonic() >= self._told_at + _TELL_SECONDS:
                self._told_at = time.monotonic()
                log.error(f"this server cannot continue, and should be restarted: {reason}")
        elif not self._context.doomed:
            self._context.doomed = self._context.draining = True
            self._harakiri.give_up(reason)

    @property
    def accepted(self) -> int:
        """How many connections were ever accepted."""
        return self._limit.total

    # Siblings

    @property
    def _connections(self) -> int:
        return len(self._context.connections) + self._pending

    @property
    def _crowded(self) -> bool:
        return self._context.executor.longest_wait(time.monotonic()) >= _CROWDED

    def _rebalance(self, descriptors: Iterable[int], *, accepted: bool = False) -> None:
        """Poll listeners, or let siblings go first for a while: if this worker is crowded, or has just `accepted` a
        connection and has a lead."""
        siblings = self._siblings
        assert siblings is not None
        connections = self._connections
        crowded = self._crowded
        siblings.publish_load(connections, crowded=crowded)
        fewest = siblings.fewest_connections()
        others_first = fewest is not None and (crowded or (accepted and connections > fewest + _LEAD))
        for descriptor in descriptors:
            (self._unwatch_listener if others_first else self._watch_listener)(descriptor)
        if crowded or others_first:
            self._rebalance_in(_CROWDED if crowded else _LEAD_PAUSE)

    def _rebalance_in(self, seconds: float) -> None:
        if self._rebalance_timer is None and self._listeners:
            self._rebalance_timer = self._loop.call_later(seconds, self._rebalance_now)

    def _rebalance_now(self) -> None:
        self._rebalance_timer = None
        self._rebalance(self._listeners)
