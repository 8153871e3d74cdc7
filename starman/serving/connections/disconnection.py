"""Detects that a client has left while its response sends nothing. Loop only, at the worker's tick.

An application may yield empty blocks (PEP 3333, "Buffering and Streaming"): then no write fails and shows that the
client is gone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starman.serving.sending.socket_state import has_finished, is_reset, send_keepalives
from starman.serving.sending.writer_state import ENDS_WITHIN

if TYPE_CHECKING:
    import asyncio

    from starman.serving.connections.progress import Progress
    from starman.serving.sending.writer import Writer

# A client that has shut down its sending side may still wait for its response, but far more often it is gone, and the
# system does not tell the two apart. So it counts as gone when the response has sent nothing for this long (seconds).
HALF_CLOSED_SECONDS: Final = 5.0


def has_left(transport: asyncio.Transport, writer: Writer, progress: Progress, now: float, *, finished: bool) -> bool:
    """Return whether to give up a connection while its response is being made.

    True if the client has reset the connection, if it has ended its stream and the response has sent nothing for
    HALF_CLOSED_SECONDS, or if the callback of a thread that should end the connection is lost (`ENDS_WITHIN`).

    `progress` must measure nothing else. `finished` says whether the loop has seen the client's FIN. `now` is
    monotonic.
    """
    state = writer.state
    within = ENDS_WITHIN.get(state)
    if within is not None:
        return progress.is_slow(state, 0, now, timeout=within)
    exchange = writer.running
    sent = None if exchange is None else exchange.empty_block_at
    fd = -1 if sent is None else transport.get_extra_info("socket").fileno()
    if exchange is None or sent is None or fd < 0:
        progress.forget()
        return False
    # The loop sees neither FIN nor reset on a connection that it leaves unread.
    if is_reset(fd):
        return True
    if not progress.is_slow(exchange.head, sent, now, timeout=HALF_CLOSED_SECONDS):
        return False
    # A client that has vanished sends neither. While no data is on its way, only keepalive probes find it.
    send_keepalives(fd)
    return finished or has_finished(fd)
