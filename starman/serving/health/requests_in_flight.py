"""The requests and responses of a service that are in flight: counted, and named for the error log. Loop only.

Everything is found in connections and threads when it is wanted, so that no request has to be counted when it comes and goes.
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

# How much of a target is shown (bytes).
_TARGET_BYTES = 107


def in_flight(context: ServiceContext) -> str:
    """The requests that run or wait, with their ages, the requests whose bodies still arrive, how many finished responses are
    being sent, and how many requests still run whose clients have gone. Completes a sentence; "" for none."""
    requests: list[tuple[str, float]] = []
    arriving: list[str] = []
    sending = 0
    for client, writer, exchanges in _by_connection(context):
        requests += [(_line(exchange.head), exchange.queued_at) for exchange in exchanges]
        if _arrives(client):
            arriving.append(_line(client._upload.head))
        if writer.turn is RETURNED:
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


def count(context: ServiceContext) -> int:
    """How many requests are in flight: their heads have been received, and their responses are not complete.

    They arrive, wait for their turn or for a thread, run, or their responses are being sent; or their clients have gone, and the
    application still runs. Requests that the server has not parsed yet, because it leaves a socket unread, are not known. May
    also be called in a signal handler of the loop's thread.
    """
    return _without_client(context) + sum(
        len(exchanges) + _arrives(client) + (writer.turn is RETURNED) for client, writer, exchanges in _by_connection(context)
    )


def _by_connection(context: ServiceContext) -> Iterator[tuple[Any, Any, list[Exchange]]]:
    """Each connection that may have something in flight, with its writer and its requests that run or wait. Reads private
    attributes, so that connections need not keep count."""
    for client in context.connections.awake():
        writer: Any = getattr(client, "_writer", None)  # a handshake has none
        if writer is not None:
            current = writer._exchange  # read once: its thread may change it at any time
            yield client, writer, [*([] if current is None else [current]), *writer._pending]


def _arrives(client: Any) -> bool:
    """Whether the body of a request arrives that becomes an exchange when it is complete."""
    upload = client._upload
    return bool(upload is not None and not upload.streamed)


def _without_client(context: ServiceContext) -> int:
    """How many requests wait or run whose connection is lost, or is the application's by now."""
    return len(_still_running(context))


def forget_lost(context: ServiceContext) -> None:
    """Forget lost connections whose requests are done. At each tick."""
    if context.lost:
        context.lost = _still_running(context)


def _still_running(context: ServiceContext) -> list[Writer]:
    return [writer for writer in context.lost if writer._exchange is not None]


def _line(head: RequestHead) -> str:
    target = printable(head.target[:_TARGET_BYTES])
    return f"{printable(head.method)} {target}{'...' if len(head.target) > _TARGET_BYTES else ''}"


def running(context: ServiceContext) -> list[tuple[str, float]]:
    """The requests that have a thread, and the instant at which each was complete; also those whose clients have gone."""
    queued = set(map(id, _queue(context)))
    found = [exchanges[0] for _, writer, exchanges in _by_connection(context) if exchanges and writer._exchange is exchanges[0]]
    found += [exchange for writer in context.lost if (exchange := writer._exchange) is not None]
    return [(_line(exchange.head), exchange.queued_at) for exchange in found if id(exchange) not in queued]


def waiting(context: ServiceContext) -> int:
    """How many requests wait for a thread."""
    return len(_queue(context))


def _queue(context: ServiceContext) -> list[Exchange]:
    """A copy: threads take from it."""
    executor: Any = context.executor
    return list(executor._queue.copy())
