"""The requests and responses of a service that are about to be cut, for the error log. Loop only."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from starman.inflight import counted, named, printable
from starman.serving.turn import LOOP_WRITES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starman.proto.messages import RequestHead
    from starman.serving.exchange import Exchange
    from starman.serving.shared import Shared

# How much of a target is shown (bytes).
_TARGET_BYTES = 107


def in_flight(shared: Shared) -> str:
    """The requests that run or wait, with their ages, the requests whose bodies still arrive, and how many finished responses are
    being sent. Completes a sentence; "" for none. Reads private attributes of connections, so that they need not keep count."""
    requests: list[tuple[str, float]] = []
    arriving: list[str] = []
    sending = 0
    for client, writer, exchanges in _by_connection(shared):
        requests += [(_line(exchange.head), exchange.queued_at) for exchange in exchanges]
        upload: Any = getattr(client, "_upload", None)
        if upload is not None and not upload.streamed:
            arriving.append(_line(upload.head))
        elif not exchanges and writer.turn in LOOP_WRITES:
            sending += 1
    parts = [named(requests, monotonic())]
    if arriving:
        parts.append(
            f", while the {'body' if len(arriving) == 1 else 'bodies'} of {', '.join(sorted(arriving)[:8])} still arrived"
        )
    if sending:
        parts.append(f", while {counted(sending, 'finished response')} had not been read whole")
    text = "".join(parts)
    return f" {text[2:]}" if text.startswith(", ") else text


def count(shared: Shared) -> int:
    """How many requests run or wait."""
    return sum(len(exchanges) for _, _, exchanges in _by_connection(shared))


def _by_connection(shared: Shared) -> Iterator[tuple[Any, Any, list[Exchange]]]:
    """Each connection with its writer and its requests that run or wait."""
    for client in shared.connections:
        writer: Any = getattr(client, "_writer", None)  # a handshake has none
        if writer is not None:
            current = writer._exchange  # read once: its thread may change it at any time
            yield client, writer, [*([] if current is None else [current]), *writer._pending]


def _line(head: RequestHead) -> str:
    target = printable(head.target[:_TARGET_BYTES])
    return f"{printable(head.method)} {target}{'...' if len(head.target) > _TARGET_BYTES else ''}"


def running(shared: Shared) -> list[tuple[str, float]]:
    """The requests that have a thread, and the instant at which each was complete; but not those whose clients have gone."""
    queued = set(map(id, _queue(shared)))
    found = [exchanges[0] for _, writer, exchanges in _by_connection(shared) if exchanges and writer._exchange is exchanges[0]]
    return [(_line(exchange.head), exchange.queued_at) for exchange in found if id(exchange) not in queued]


def waiting(shared: Shared) -> int:
    """How many requests wait for a thread."""
    return len(_queue(shared))


def _queue(shared: Shared) -> list[Exchange]:
    """A copy: threads take from it."""
    pool: Any = shared.pool
    return list(pool._queue.copy())
