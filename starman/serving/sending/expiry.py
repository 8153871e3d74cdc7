"""The end of a request that has passed its deadline: takes the sending side of its connection from the thread.

Both sides take the writer's lock (hazard 11), and the states follow its table (`writer_state`). The loop ends the
response under the lock, unless the thread has finished the request before. From then on the thread is not the one that
runs the connection's exchange: everything that it sends raises Disconnected, as if the client had left.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from starman.serving.executors.queued_request import EXPIRED
from starman.serving.sending.writer_state import DEAD, FINISHING, RETURNED, SPOOLED, SPOOLING, STREAMING, THREAD

if TYPE_CHECKING:
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.sending.writer import Writer
    from starman.wsgi.call import Call


class Ending(Enum):
    """What the client gets of a request that has passed its deadline, in words for the error log."""

    NOT_NOW = ""  # the request goes on: the thread has just finished it, or waits for the client
    ANSWERED = "its client gets 504"
    CUT = "its response is cut"
    COMPLETE = "its client has the whole response"
    GONE = "its client has left"


def expire(writer: Writer, exchange: QueuedRequest, call: Call | None, answer: bytes) -> Ending:
    """End the response of `exchange`, and its connection. `call`: its call of the application; None: not yet made.
    `answer`: sent if no response has begun. Loop."""
    with writer._lock:
        if writer.running is not exchange or exchange.time_limit <= 0.0 or writer.state is STREAMING:
            return Ending.NOT_NOW
        exchange.time_limit = EXPIRED
        writer.running = None
        writer._persistent = False
        if writer.state is DEAD:
            return Ending.GONE
        # While the lock is held, nothing more can be sent: the call notes that it begins before it sends.
        if call is None or not call.has_begun:
            return _answer(writer, answer)
        if not call.is_complete:
            _cut(writer, reset=call.ends_with_connection)
            return Ending.CUT
        _end(writer)
        return Ending.COMPLETE


def _answer(writer: Writer, answer: bytes) -> Ending:
    unsent: memoryview | None = memoryview(answer)
    if writer.state is not SPOOLING and writer.thread_socket.fd >= 0:
        try:
            unsent = writer.thread_socket.write(answer, b"")
        except OSError:
            writer._failed()
            return Ending.GONE
    if unsent is None:
        writer._next()
    else:
        writer.state = RETURNED
        writer._handed += 1
        writer._call_loop(writer._loop_side.take_over, unsent)
    return Ending.ANSWERED


def _cut(writer: Writer, *, reset: bool) -> None:
    """`reset`: whether an orderly end of the connection would look like the end of the response."""
    if reset:
        if writer.state is THREAD or writer.state is SPOOLED:
            writer._failed()
            return
        # The loop sends, perhaps a file to the duplicate, so the loop closes it.
        writer._call_loop(writer._loop_side.reset)
    _end(writer)


def _end(writer: Writer) -> None:
    """End the connection after everything that was handed over or held back."""
    writer._write_held()
    if writer.state is SPOOLING or writer.state is FINISHING:
        writer.state = RETURNED
    elif writer.state is not DEAD:
        writer._next()


def finish_in_time(writer: Writer, exchange: QueuedRequest) -> bool:
    """The application has returned, and the deadline does not count any more. Thread. False: it has passed, and the
    loop has ended the response."""
    with writer._lock:
        if exchange.time_limit == EXPIRED:
            return False
        exchange.time_limit = 0.0
        return True


def set_time_limit(writer: Writer, exchange: QueuedRequest, limit: float) -> None:
    """Set `time_limit`, unless the deadline has passed. Thread."""
    with writer._lock:
        if exchange.time_limit != EXPIRED:
            exchange.time_limit = limit


def close_spool(writer: Writer) -> None:
    """Close the spool of a response after its deadline. Thread, after the application has returned."""
    with writer._lock:
        spool, writer._spool = writer._spool, None
    if spool is not None:
        spool.close()
