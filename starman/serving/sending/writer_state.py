"""Whose turn it is to write to a connection: the states of its sending side, and what may follow what."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class WriterState(Enum):
    """Who may write. See `TRANSITIONS` for what may follow what."""

    FREE = auto()  # no exchange: the loop's
    THREAD = auto()  # an exchange runs: its thread's
    STREAMING = auto()  # the loop writes what the socket did not take; the thread waits for room
    SPOOLING = auto()  # the loop writes what the socket did not take; the thread goes on, and adds to it
    SPOOLED = auto()  # all of that is written; the thread has still to notice
    FINISHING = auto()  # the loop writes the last of a response; the application has still to return
    RETURNED = auto()  # the same, and the application has returned: the thread is free
    WRITTEN = auto()  # all is written; the application has still to return
    ENDING = auto()  # the last response is written: the loop closes
    DEAD = auto()  # the connection is lost or cut: nobody's


# A class attribute of an Enum costs 0.24 µs on 3.11, a global 0.03, and a request looks at twenty.
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

# What the turn of a thread is when the loop has written all that was handed over to it.
ON_DRAIN: Final = {STREAMING: THREAD, SPOOLING: SPOOLED, FINISHING: WRITTEN}

# The loop has something to write, and a client that takes nothing of it is cut.
LOOP_WRITES: Final = frozenset((STREAMING, SPOOLING, FINISHING, RETURNED))

# In these turns a thread has asked the loop to end the connection. After so long (seconds) the loop ends it in any case, because
# a thread without memory cannot ask.
ENDS_WITHIN: Final = {ENDING: 1.0, DEAD: 1.0}
