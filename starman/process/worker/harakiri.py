"""Harakiri: the application, or a loop that cannot continue, requests the end of the worker."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


class HarakiriRequests:
    """The `Harakiri` of a worker's service. Loop only.

    on_end_requested: called when the application requests the end of the worker. on_give_up: called with a reason when
    the loop cannot continue. The worker sets both before the service runs (`worker`).
    """

    __slots__ = ("on_end_requested", "on_give_up")

    def __init__(self) -> None:
        self.on_end_requested: Callable[[], None] = _nothing
        self.on_give_up: Callable[[str], None] = _nothing

    def request_end(self) -> None:
        """The application requests the end of this worker."""
        self.on_end_requested()

    def give_up(self, reason: str) -> None:
        """The loop cannot continue: have the worker replaced."""
        self.on_give_up(reason)


def _nothing(*_: str) -> None:
    pass
