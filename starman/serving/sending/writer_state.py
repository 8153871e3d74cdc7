"""The states of a connection's sending side, which say whether a thread or the loop may write, and their
transitions."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class WriterState(Enum):
    """Which side may write, and which side has still something to do. See `TRANSITIONS` for the next states."""

    FREE = auto()  # no exchange runs; the loop may write
    THREAD = auto()  # an exchange runs; its thread may write
    STREAMING = auto()  # the loop sends what the socket did not take; the thread waits for room
    SPOOLING = auto()  # the loop sends what the socket did not take; the thread goes on and adds to it
    SPOOLED = auto()  # the loop has sent all of it; the thread has still to notice
    FINISHING = auto()  # the loop sends the end of a response; the application has still to return
    RETURNED = auto()  # the loop sends the end of a response; the application has returned, and its thread is free
    WRITTEN = auto()  # everything is sent; the application has still to return
    ENDING = auto()  # the last response is sent; the loop closes the connection
    DEAD = auto()  # the connection is lost or reset; neither side may write


# An attribute of an Enum class costs 0.24 µs on 3.11, a global 0.03, and a request reads twenty.
FREE: Final = WriterState.FREE
THREAD: Final = WriterState.THREAD
STREAMING: Final = WriterState.STREAMING
SPOOLING: Final = WriterState.SPOOLING
SPOOLED: Final = WriterState.SPOOLED
FINISHING: Final = WriterState.FINISHING
RETURNED: Final = WriterState.RETURNED
WRITTEN: Final = WriterState.WRITTEN
ENDING: Final = WriterState.ENDING
DEAD: Final = WriterState.DEAD


TRANSITIONS: Final[dict[WriterState, frozenset[WriterState]]] = {
    FREE: frozenset((THREAD, RETURNED, DEAD)),
    THREAD: frozenset((THREAD, FREE, STREAMING, SPOOLING, FINISHING, RETURNED, ENDING, DEAD)),
    STREAMING: frozenset((THREAD, DEAD)),
    SPOOLING: frozenset((SPOOLING, SPOOLED, STREAMING, FINISHING, RETURNED, DEAD)),
    SPOOLED: frozenset((THREAD, FREE, STREAMING, SPOOLING, FINISHING, ENDING, DEAD)),
    FINISHING: frozenset((RETURNED, WRITTEN, DEAD)),
    RETURNED: frozenset((THREAD, FREE, ENDING, DEAD)),
    WRITTEN: frozenset((THREAD, FREE, ENDING, DEAD)),
    ENDING: frozenset((DEAD,)),
    DEAD: frozenset(),
}

# The next state when the loop has sent everything that was handed over.
WHEN_SENT: Final = {STREAMING: THREAD, SPOOLING: SPOOLED, FINISHING: WRITTEN}

# The loop has something to send. It resets the connection of a client that takes nothing of it.
LOOP_WRITES: Final = frozenset((STREAMING, SPOOLING, FINISHING, RETURNED))

# In these states a thread has posted a call that ends the connection. After so long (seconds) the loop ends it in any
# case: a thread without memory cannot post.
ENDS_WITHIN: Final = {ENDING: 1.0, DEAD: 1.0}
