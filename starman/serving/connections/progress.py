"""Detects transfers that are too slow: no progress for a timeout, or an average rate below a minimum.

Request heads, request bodies and responses are measured at the worker's tick, so measuring costs a request nothing.
"""

from __future__ import annotations

from typing import Final

# For how long (seconds) a transfer may be slower than its minimum rate: TCP starts slowly, and a client may pause.
RATE_GRACE: Final = 10.0


class Progress:
    """Measures one transfer of one connection at a time. Loop only."""

    __slots__ = ("_amount", "_changed_at", "_first_amount", "_started_at", "_transfer")

    def __init__(self) -> None:
        self._transfer: object = None
        self._amount = 0
        self._first_amount = 0
        self._started_at = 0.0
        self._changed_at = 0.0

    def is_slow(self, transfer: object, amount: int, now: float, *, timeout: float, rate: int = 0) -> bool:
        """Return whether a transfer made no progress for `timeout` seconds, or is slower than `rate` bytes a second.

        Call this again and again: the measurement starts with the first call for a `transfer`, and starts anew when
        another transfer is given. `amount` is the number of bytes that are transferred, or that are left; only its
        change counts. `now` is monotonic. A `rate` of 0 means no minimum.

        `transfer` is any object that identifies the transfer. It is kept, so it must not refer to the owner of this
        object: a reference cycle is freed only by the garbage collector.
        """
        if transfer != self._transfer:
            self._transfer = transfer
            self._amount = self._first_amount = amount
            self._started_at = self._changed_at = now
        elif amount != self._amount:
            self._amount = amount
            self._changed_at = now
        moved = abs(amount - self._first_amount)
        return now - self._changed_at >= timeout or moved < rate * (now - self._started_at - RATE_GRACE)

    def forget(self) -> None:
        """Forget the transfer: the next call of `is_slow` starts a new measurement, even for the same transfer."""
        self._transfer = None
