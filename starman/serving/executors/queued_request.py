"""The base class of an `Exchange`: what the sending side and the executors need of a request that waits or runs.

Must not import anything of serving/. A base class, not a Protocol: mypyc calls its methods through a vtable.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starman.proto.events import RequestHead


class QueuedRequest(metaclass=ABCMeta):
    """A request that waits for an executor or runs in one.

    queued_at: when the request was complete, monotonic.
    empty_block_at: how many bytes of the body were sent when the application last gave an empty block; None: it gave
    none. Set by the thread.
    """

    __slots__ = ("empty_block_at", "head", "queued_at")

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.queued_at = monotonic()
        self.empty_block_at: int | None = None

    @abstractmethod
    def run(self) -> QueuedRequest | None:
        """Call the application and send its response. Returns the connection's next request, if one waits. Thread."""

    @abstractmethod
    def abandon(self, error: BaseException) -> None:
        """`run` failed by a defect of the server or for lack of memory: reset the connection. Never raises. Thread."""

    @abstractmethod
    def drop(self) -> None:
        """The request will not run, because the client is gone: free its body. Does not block. Either side."""

    def lose(self) -> None:
        """As `drop`, and log that the client left before its request ran. Either side."""
        self.drop()
