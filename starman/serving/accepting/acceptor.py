"""New connections of one worker: accepts on the listeners it shares with its siblings, until the drain."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, cast

from starman import log
from starman.log.tracebacks import format_exception
from starman.serving.accepting import exclusive_epoll
from starman.serving.accepting.connection_limit import ConnectionLimit
from starman.serving.accepting.exclusive_epoll import ExclusiveWatch
from starman.serving.accepting.listening import Listening, ListeningSocket, waits
from starman.serving.connection import Connection
from starman.serving.context import SOFTWARE, ServiceContext
from starman.serving.monitor import Monitor
from starman.serving.tls.handshake import Handshake
from starman.wsgi.environ import for_connection, template

# How many connections one wake-up accepts from a listener at most. Where siblings are woken in turn, as many as give no lead.
_MOST_AT_ONCE = 16

# How long (seconds) a listener is left alone when no descriptor is left for a connection.
_PAUSE = 0.5

# The same (seconds) when all connections are busy, or an idle one was just closed for lack of a descriptor.
_FULL_PAUSE = 0.05

# A worker in which a request has waited this long (seconds) for a thread is crowded, and looks again after as long.
_CROWDED = 0.005

# So many connections more than a sibling's are a lead; a worker that has it takes no more than one in this time (seconds).
_LEAD = 3
_LEAD_PAUSE = 0.002

# Errors that come back with each connection, because a descriptor was closed, are logged once in this time (seconds).
_TELL_SECONDS = 10.0
_NO_WAIT = "it cannot wait for connections"
_FOR_EVER = frozenset((errno.EBADF, errno.EEXIST, errno.EINVAL, errno.ENOTSOCK, errno.EOPNOTSUPP))

# For so many ticks a worker has to have been without siblings before it is alone: those that start with it may be slower.
_ALONE_TICKS = 4

# Makes the protocol of a connection, of its socket and its client's address.
Factory = Callable[[socket.socket, object], asyncio.Protocol]


class Acceptor:
    """Accepts on all listeners of a worker. Loop only.

    By accept(2), not by create_server: that one's close unlinks a UNIX path which is shared (hazard 12), loses what it has just
    accepted (asyncio's own loop), and says nothing of what is still in the kernel's queue (hazard 13). With siblings, each
    accepts when it is its turn (`exclusive`), and a crowded one lets those go first that are not. A worker that is alone for now
    has its loop look (`add_reader`): a thread less is woken for a connection.
    """

    __slots__ = (
        "_alone",
        "_context",
        "_limit",
        "_listeners",
        "_loop",
        "_multiprocess",
        "_paused",
        "_pending",
        "_review",
        "_siblings",
        "_threads",
        "_ticks_alone",
        "_tls",
        "_told_at",
        "_watch",
    )

    def __init__(
        self,
        context: ServiceContext,
        *,
        threads: int,
        multiprocess: bool,
        tls: ssl.SSLContext | None,
        siblings: Monitor | None = None,
    ) -> None:
        """`threads` and `multiprocess` are told to the application. `tls` is needed where a listener is secure. `siblings` knows
        of the other workers on the same listeners, if there are any; None: nobody can tell."""
        self._context = context
        self._limit = ConnectionLimit(context, context.max_connections)
        self._siblings = siblings
        self._watch: ExclusiveWatch | None = None
        self._alone = False  # as of the last tick
        self._ticks_alone = 0
        self._review: asyncio.TimerHandle | None = None
        self._threads = threads
        self._multiprocess = multiprocess
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[int, tuple[socket.socket, Factory]] = {}
        # The listeners that are left alone, for a descriptor is lacking.
        self._paused: set[int] = set()
        # How many accepted sockets are still to become connections.
        self._pending = 0
        self._told_at = -_TELL_SECONDS

    def start(self, listeners: Sequence[Listening]) -> None:
        """Begin to accept. The listeners' sockets stay the caller's: duplicates are used."""
        if self._siblings is not None and exclusive_epoll.available:
            try:
                self._watch = ExclusiveWatch(self._accept_in_turn, self._context.executor.post, partial(self._give_up, _NO_WAIT))
            except (OSError, RuntimeError, MemoryError) as error:
                log.warning(f"connections are spread over the workers less evenly: {error}")
            else:
                self._context.executor.on_backlog = partial(self._review_in, _CROWDED)
        for listener in listeners:
            sock = ListeningSocket(fileno=listener.socket.dup().detach())
            sock.setblocking(False)
            self._listeners[sock.fileno()] = sock, self._factory(sock, listener.secure)
            self._look_at(sock.fileno())

    def stop(self) -> None:
        """Accept what the kernel already has for us, then no more: those clients may have sent their request (hazard 13).
        A doomed process leaves them to the others."""
        listeners, self._listeners = self._listeners, {}
        if self._review is not None:
            self._review.cancel()
        for descriptor, (sock, factory) in listeners.items():
            self._look_away(descriptor)
            # If another connection has woken this worker, it is among these.
            self._accept(sock, factory, 1 << 16)
            with contextlib.suppress(OSError):  # the application has closed its descriptor
                sock.close()
        if self._watch is not None:
            self._watch.stop()
            self._watch = None

    def tick(self) -> None:
        """Look whether siblings have come or gone; and for a connection that waits although nobody is awake for it: whom it had
        woken was killed, or is doomed."""
        self._limit.tick()
        if self._watch is None or self._siblings is None:
            return
        self._ticks_alone = self._ticks_alone + 1 if self._siblings.alone() else 0
        alone = self._ticks_alone >= _ALONE_TICKS
        if alone is self._alone and (alone or self._review is not None):
            return
        for descriptor in self._listeners:
            self._look_away(descriptor)
        self._alone = alone
        self._queue_up(self._listeners)

    def descriptors(self) -> list[int]:
        """What waits for connections in a thread of its own."""
        return [] if self._watch is None else self._watch.descriptors()

    def resume(self) -> None:
        """The process is no longer doomed: accept connections again."""
        for descriptor in self._listeners:
            self._look_at(descriptor)

    async def settle(self) -> None:
        """Wait until all that was accepted are connections, or gone: a few rounds of the loop."""
        while self._pending:
            await asyncio.sleep(0)

    @property
    def busy(self) -> bool:
        """Whether accepted sockets are still on their way to becoming connections."""
        return self._pending > 0

    def _look_at(self, descriptor: int) -> None:
        """Be told when a connection waits; not while the listener is left alone."""
        if descriptor in self._listeners and descriptor not in self._paused:
            try:
                if self._watch is not None and not self._alone:
                    self._watch.join(descriptor)
                else:
                    self._loop.add_reader(descriptor, self._accept, *self._listeners[descriptor])
            except (OSError, ValueError) as error:
                self._give_up(_NO_WAIT, error)

    def _look_away(self, descriptor: int) -> None:
        if self._watch is not None and not self._alone:
            self._watch.leave(descriptor)
        else:
            self._loop.remove_reader(descriptor)

    def _accept_in_turn(self, descriptor: int) -> None:
        """A connection waits, and nobody else was woken for it: even who is crowded now takes it, but only this one, for a
        sibling may have threads free in a moment. Else more, as far as this gives no lead over siblings."""
        if descriptor in self._listeners and descriptor not in self._paused:
            assert self._siblings is not None
            fewest = self._siblings.fewest()
            most = _MOST_AT_ONCE if fewest is None else min(fewest + _LEAD - self._connections, _MOST_AT_ONCE)
            if most < 1 or self._crowded:
                most = 1
            if self._accept(*self._listeners[descriptor], most):
                self._queue_up((descriptor,), accepted=True)

    def _accept(self, listener: socket.socket, factory: Factory, most: int = _MOST_AT_ONCE) -> bool:
        """Take what waits. False: it must not be taken, for this process is doomed; or it cannot, as without a descriptor, and
        the listener is left alone for a moment."""
        for _ in range(most):
            if self._context.doomed:
                if listener.fileno() in self._listeners:
                    self._look_away(listener.fileno())  # level-triggered, it would spin the loop
                return False
            # A drain takes what the kernel has.
            if self._listeners and self._limit.is_reached(self._pending):
                if not waits(listener):
                    return True
                if not self._limit.make_room(self._pending):
                    self._leave_alone(listener, _FULL_PAUSE)
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
                self._leave_alone(listener, _FULL_PAUSE if no_descriptor and self._limit.close_one() else _PAUSE)
                return False
            self._limit.accepted(sock.fileno())
            sock.setblocking(False)  # the loops see to TCP_NODELAY
            self._connect(partial(factory, sock, peer), sock)
        return True

    def _leave_alone(self, listener: socket.socket, seconds: float) -> None:
        """Do not poll the listener for a while: level-triggered, it would spin the loop. Other workers take new connections."""
        self._paused.add(listener.fileno())
        self._look_away(listener.fileno())
        self._loop.call_later(seconds, self._end_pause, listener.fileno())

    def _end_pause(self, descriptor: int) -> None:
        self._paused.discard(descriptor)
        self._look_at(descriptor)

    def _connect(self, factory: Callable[[], asyncio.Protocol], sock: socket.socket) -> None:
        """Have the loop make a connection of a socket. By hand: a task for that takes 27,000 instructions on 3.11, a twelfth
        of all that a connection of one request does."""
        self._pending += 1
        self._context.executor.welcome()
        self._go_on(self._loop.connect_accepted_socket(factory, sock), sock)

    def _go_on(self, making: Coroutine[Any, Any, object], sock: socket.socket, _made: object = None) -> None:
        """Run the making of a connection up to the future that it waits for, and then again."""
        waits = False
        try:
            future: asyncio.Future[object] = making.send(None)
            waits = True
            future.add_done_callback(partial(self._go_on, making, sock))
        except StopIteration:
            pass
        except OSError as error:
            sock.close()
            if error.errno in _FOR_EVER - {errno.EINVAL}:  # EINVAL: a client has gone again (macOS)
                self._give_up("its event loop takes no connections", error)
        except Exception as error:  # a defect of ours must cost no more than this one
            log.error(f"a connection could not be made\n{format_exception(error)}")
            sock.close()
        finally:
            if not waits:
                self._pending -= 1

    def _give_up(self, what: str, error: Exception) -> None:
        """No more connections can be accepted: have another process replace this one; without one, say so in the log."""
        reason = f"{what}: {error} (has the application closed a descriptor that is not its own?)"
        if self._siblings is None:
            if time.monotonic() >= self._told_at + _TELL_SECONDS:
                self._told_at = time.monotonic()
                log.error(f"this server cannot go on, and should be restarted: {reason}")
        elif not self._context.doomed:
            self._context.doomed = self._context.draining = True
            self._siblings.give_up(reason)

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

    def _queue_up(self, descriptors: Iterable[int], *, accepted: bool = False) -> None:
        """Wait for the next turn, or let siblings go first for a while: when this worker is crowded, or has just `accepted` and
        is ahead of them."""
        siblings = self._siblings
        assert siblings is not None
        connections = self._connections
        crowded = self._crowded
        siblings.note(connections, crowded=crowded)
        fewest = siblings.fewest()
        others_first = fewest is not None and (crowded or (accepted and connections > fewest + _LEAD))
        for descriptor in descriptors:
            (self._look_away if others_first else self._look_at)(descriptor)
        if crowded or others_first:
            self._review_in(_CROWDED if crowded else _LEAD_PAUSE)

    def _review_in(self, seconds: float) -> None:
        if self._review is None and self._listeners:
            self._review = self._loop.call_later(seconds, self._look_again)

    def _look_again(self) -> None:
        self._review = None
        self._queue_up(self._listeners)

    def _factory(self, sock: socket.socket, secure: bool) -> Factory:
        """Makes the connections of one listener; on a wildcard address, each has a SERVER_NAME of its own."""
        wildcard = sock.family != socket.AF_UNIX and sock.getsockname()[0] in ("0.0.0.0", "::")
        # A UNIX listener needs a name and a port too: frameworks ask, and leave the scheme's own port out of URLs.
        server = ("localhost", 443 if secure else 80) if sock.family == socket.AF_UNIX else sock.getsockname()[:2]
        environ = template(
            server=server,
            secure=secure,
            errors=sys.stderr,
            threads=self._threads > 1,
            processes=self._multiprocess,
            software=SOFTWARE,
        )
        if self._context.on_harakiri is not None:
            environ["starman.harakiri"] = False
        context, loop, tls = self._context, self._loop, self._tls

        def make(sock: socket.socket, peer: object) -> asyncio.Protocol:
            # As accept(2) tells it: the transport would ask for it once more.
            base = for_connection(environ, peer, sock.getsockname() if wildcard else None)
            if secure:
                assert tls is not None
                return Handshake(context, tls, base)
            return cast("asyncio.Protocol", Connection(context, loop, base, sock.fileno()))

        return make
