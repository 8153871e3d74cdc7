"""How far the response of a call of the application has come."""

from __future__ import annotations

from enum import Enum, auto
from typing import Final


class ResponseState(Enum):
    """NOTHING → STARTED (start_response was called) → BEGUN (its head is about to be sent) → ENDED."""

    NOTHING = auto()
    STARTED = auto()
    BEGUN = auto()
    ENDED = auto()


# As globals: an attribute of an Enum class costs 0.24 µs on 3.11.
NOTHING: Final = ResponseState.NOTHING
STARTED: Final = ResponseState.STARTED
BEGUN: Final = ResponseState.BEGUN
ENDED: Final = ResponseState.ENDED
