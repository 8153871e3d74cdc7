"""The base classes of an `Exchange`: what the sending side, the executors, the metrics and the logs need of a request.

Must not import anything of serving/. Base classes, not Protocols: mypyc calls their methods through a vtable.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from time import monotonic
from typing import TYPE_CHECKING, Final

# The `time_limit` of a request whose deadline has passed: the loop has ended its response.
EXPIRED: Final = -1.0

if TYPE_CHECKING:
    from starman.proto.events import RequestHead


class RequestState(metaclass=ABCMeta):  # noqa: B024 -- derived classes are abstract
    """When a request came and ran, and what was sent: read by the metrics, the logs and the limits of time.

    arrived_at: when the request was complete, monotonic. queued_at: the same, or when its response was queued again.
    runnable_at: since when nothing but a thread is missing, monotonic: later than arrived_at if the request has waited
    for others of its connection. 0.0: the thread that has run those runs this one next.
    empty_block_at: how many bytes of the body were sent when the application last gave an empty block; None: it gave
    none. Set by the thread.
    started_at: when the application was called, monotonic; 0.0: it was not. The executor may set it before `run`.
    waited: for how long (seconds) the thread has waited for the client. waiting_since: since when it waits for the
    client now, monotonic; 0.0: it does not. It is set for good when the application takes the connection for another
    protocol. Set by the thread; the loop reads them.
    time_limit: for how long (seconds) the application may work on the request; 0.0: as long as it likes; EXPIRED.
    Changed under the lock of the connection's writer (`sending.expiry`). ends: whether the loop is about to end the
    response, and to count its thread as lost. is_interrupted: whether the loop raises RequestTimeout in the thread.
    Both are set by the loop; the thread waits while the request `ends`.
    status_code: of the response; 0 if the client has left before its end; negative until then. queue_seconds: how long
    the request has waited to run. body_sent, body_received: the bytes of both bodies. is_counted: whether the
    metrics have counted the request. Set by the side that ends the request, before it is counted.
    """

    __slots__ = (
        *("arrived_at", "body_received", "body_sent", "empty_block_at", "ends", "head", "is_counted", "is_interrupted"),
        *("queue_seconds", "queued_at", "runnable_at", "started_at", "status_code", "time_limit", "waited", "waiting_since"),
    )

    def __init__(self, head: RequestHead) -> None:
        self.head = head
        self.arrived_at = self.queued_at = self.runnable_at = monotonic()
        self.empty_block_at: int | None = None
        self.started_at = 0.0
        self.waited = 0.0
        self.waiting_since = 0.0
        self.time_limit = 0.0
        self.ends = False
        self.is_interrupted = False
        self.status_code = -1
        self.queue_seconds = 0.0
        self.body_sent = 0
        self.body_received = 0
        self.is_counted = False

    def url_scheme(self) -> str:
        """The scheme of the request's URL, "http" or "https". Either side."""
        return "http"

    def application_seconds(self, now: float) -> float:
        """For how long (seconds) the application has worked on this request: without the time in the queue, and
        without waits for the client. `now` is monotonic. Either side."""
        if not self.started_at:
            return 0.0
        # In this order: at the end of a wait, the thread sets `waited` first. A wait counts twice at worst, never not.
        since = self.waiting_since
        return now - self.started_at - self.waited - (now - since if since else 0.0)

    def begin_wait(self) -> None:
        """The thread is about to wait for the client. Thread."""
        self.waiting_since = monotonic()

    def end_wait(self) -> None:
        """The wait for the client is over. Thread."""
        self.waited += monotonic() - self.waiting_since
        self.waiting_since = 0.0


class QueuedRequest(RequestState):
    """A request that waits for an executor or runs in one."""

    __slots__ = ()

    @abstractmethod
    def run(self) -> QueuedRequest | None:
        """Call the application and send its response. Returns the connection's next request, if one waits. Thread."""

    @abstractmethod
    def abandon(self, error: BaseException) -> None:
        """`run` failed by a defect of the server or for lack of memory: reset the connection. Never raises. Thread."""

    @abstractmethod
    def set_time_limit(self, seconds: float) -> None:
        """Let the application work for `seconds` from now on; 0.0: as long as it likes. Thread."""

    @abstractmethod
    def expire(self, now: float) -> str:
        """The deadline has passed: end the response, and log it in the access log. Loop.

        Returns what the client gets, for the error log; "" if the request goes on, because it has just been finished.
        """

    @abstractmethod
    def drop(self) -> None:
        """The request will not run, because the client is gone: free its body. Does not block. Either side."""

    def lose(self) -> None:
        """As `drop`, and log that the client left before its request ran. Either side."""
        self.drop()

    # Of a request in an executor's queue

    @abstractmethod
    def thread_wait(self, now: float) -> float:
        """For how long (seconds) the request has waited for a thread, and before that in a proxy. Either side. `now`
        is monotonic."""

    @abstractmethod
    def shed(self, reason: str) -> QueuedRequest | None:
        """Answer 503 without running, because too many requests wait. `reason`: of `load_shedding`. Returns what `run`
        returns. The side that has taken it from the queue."""

    @abstractmethod
    def is_gone(self, now: float) -> bool:
        """Whether the client has left, as far as the loop has seen. Loop. `now` is monotonic."""

    @abstractmethod
    def end_lost(self) -> QueuedRequest | None:
        """The client has left: end without running. Returns what `run` returns. The side that has taken it from the
        queue."""
