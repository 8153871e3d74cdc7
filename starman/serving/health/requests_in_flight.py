"""Counts the requests of a service that are in flight, and names them for the error log. Loop only.

The requests are found in connections and threads when they are needed, so no request is counted when it begins or
ends.
"""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from starman.log.in_flight import counted, printable, while_serving
from starman.serving.sending.writer_state import RETURNED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starman.proto.events import RequestHead
    from starman.serving.context import ServiceContext
    from starman.serving.exchange import Exchange
    from starman.serving.sending.writer import Writer

# How many bytes of a target are shown.
_TARGET_BYTES = 107


def describe_in_flight(context: ServiceContext) -> str:
    """Return a text for the end of a log line, "" if nothing is in flight.

    It names the requests that run or wait, with their ages, and the requests with bodies that still arrive. It counts
    the finished responses that are still being sent, and the requests that still run without a client.
    """
    requests: list[tuple[str, float]] = []
    arriving: list[str] = []
    sending = 0
    for client, writer, exchanges in _by_connection(context):
        requests += [(request_line(exchange.head), exchange.queued_at) for exchange in exchanges]
        if _arrives(client):
            arriving.append(request_line(client._upload.head))
        if writer.state is RETURNED:
            sending += 1
    parts = [while_serving(requests, monotonic())]
    if arriving:
        parts.append(
            f", while the {'body' if len(arriving) == 1 else 'bodies'} of {', '.join(sorted(arriving)[:8])} still arrived"
        )
    if sending:
        parts.append(f", while {counted(sending, 'finished response')} had not been read whole")
    if gone := _without_client(context):
        parts.append(f", while {counted(gone, 'request')} of clients that have gone still {'runs' if gone == 1 else 'run'}")
    text = "".join(parts)
    return f" {text[2:]}" if text.startswith(", ") else text


def count_in_flight(context: ServiceContext) -> int:
    """Return how many requests are in flight: the head has been received, and the response is not complete.

    Their bodies arrive, they wait for an earlier request or a thread, they run, or their responses are being sent.
    Requests that still run without a client count as well. Requests that are not parsed, because their socket is left
    unread, do not count. A signal handler of the loop's thread may call this, too.
    """
    return _without_client(context) + sum(
        len(exchanges) + _arrives(client) + (writer.state is RETURNED) for client, writer, exchanges in _by_connection(context)
    )


def _by_connection(context: ServiceContext) -> Iterator[tuple[Any, Any, list[Exchange]]]:
    """Yield the active connections, each with its writer and its requests that run or wait.

    Reads private attributes, so that connections need not count.
    """
    for client in context.connections.active():
        writer: Any = getattr(client, "_writer", None)  # a TLS handshake has none
        if writer is not None:
            current = writer.running  # read once: its thread may change the attribute at any time
            yield client, writer, [*([] if current is None else [current]), *writer.pending]


def _arrives(client: Any) -> bool:
    """Return whether a body arrives, and the request becomes an exchange when it is complete."""
    upload = client._upload
    return bool(upload is not None and not upload.streamed)


def _without_client(context: ServiceContext) -> int:
    """Return how many requests wait or run after their connection was lost, or taken by the application."""
    return len(_still_running(context))


def forget_lost(context: ServiceContext) -> None:
    """Forget the lost connections that have no request any more. Called by each tick."""
    if context.lost:
        context.lost = _still_running(context)


def _still_running(context: ServiceContext) -> list[Writer]:
    return [writer for writer in context.lost if writer.running is not None]


def request_line(head: RequestHead) -> str:
    """Return the method and the target of a request, in printable ASCII; a long target is cut off."""
    target = printable(head.target[:_TARGET_BYTES])
    return f"{printable(head.method)} {target}{'...' if len(head.target) > _TARGET_BYTES else ''}"


def count_waiting(context: ServiceContext) -> int:
    """Return how many requests wait for a thread."""
    return len(_queue(context))


def _queue(context: ServiceContext) -> list[Exchange]:
    """Return a copy of the queue, because threads take from it at any time."""
    executor: Any = context.executor
    return list(executor._queue.copy())
