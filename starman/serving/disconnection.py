"""Whether a client has left while the application gives only empty blocks (PEP 3333, "Buffering and Streaming"), so that no write
would notice it. Loop only, at its tick."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starman.serving.sending.socket_state import has_finished, is_reset, send_keepalives
from starman.serving.sending.writer_state import ENDS_WITHIN

if TYPE_CHECKING:
    import asyncio

    from starman.serving.progress import Progress
    from starman.serving.sending.writer import Writer

# A client that has shut down its sending side may still wait for its response. But far more often it is gone, and the system
# does not tell the two apart. So the client counts as gone when the response has sent nothing for so long (seconds).
HALF_CLOSED_SECONDS: Final = 5.0


def has_left(transport: asyncio.Transport, writer: Writer, progress: Progress, now: float, *, finished: bool) -> bool:
    """Whether a connection whose response is being made can be given up: it was reset, or the client has finished sending and
    the response has been silent for `HALF_CLOSED_SECONDS`; or a thread's callback that should end it is lost (`ENDS_WITHIN`).

    `progress` is of that response alone. `finished`: the loop has seen the client's FIN. `now` is monotonic.
    """
    turn = writer.turn
    within = ENDS_WITHIN.get(turn)
    if within is not None:
        return progress.is_slow(turn, 0, now, timeout=within)
    silence = writer.silence()
    fd = transport.get_extra_info("socket").fileno() if silence is not None else -1
    if silence is None or fd < 0:
        progress.forget()
        return False
    # The loop sees neither FIN nor reset of a connection that it leaves unread.
    if is_reset(fd):
        return True
    head, sent = silence
    if not progress.is_slow(head, sent, now, timeout=HALF_CLOSED_SECONDS):
        return False
    # A client that has vanished sends nothing at all. While no data is on its way, only probes find it.
    send_keepalives(fd)
    return finished or has_finished(fd)
