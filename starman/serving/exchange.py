"""One request and its response: queued by the loop, run by a thread of the pool."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from starman import application_forks, log
from starman.errors import Disconnected, RequestTimeout
from starman.log.tracebacks import format_exception, free_frames_of
from starman.proto.events import RequestHead
from starman.proto.response import DateLines, RequestFacts, refusal
from starman.serving.connections.disconnection import HALF_CLOSED_SECONDS
from starman.serving.exchange_body import Body, FinishedBody
from starman.serving.executors.queued_request import EXPIRED, QueuedRequest
from starman.serving.gunicorn_socket.detached import DetachedConnection
from starman.serving.gunicorn_socket.rawsocket import RawSocket
from starman.serving.load_shedding import WAITED_TOO_LONG
from starman.serving.resource_shortage import refuse_body
from starman.serving.response_sender import ResponseSender
from starman.serving.sending.expiry import Ending, close_spool, expire, finish_in_time, set_time_limit
from starman.serving.sending.writer_state import DEAD
from starman.wsgi.call import Call
from starman.wsgi.environ import Environ, build
from starman.wsgi.failure import described

if TYPE_CHECKING:
    from starman.serving.access_log.logged_request import LoggedRequest
    from starman.serving.access_log.request_log import RequestLog
    from starman.serving.context import ServiceContext
    from starman.serving.sending.writer import Writer

# A request that has waited this long (seconds) runs only if its client is still there (hazard 5).
_LONG_IN_QUEUE: Final = 0.05

# By the minor version: there are only four.
_FACTS: Final = (RequestFacts(0, False), RequestFacts(1, False))
_HEAD_FACTS: Final = (RequestFacts(0, True), RequestFacts(1, True))


class Exchange(ResponseSender):
    """One request and its response: made by the loop, then owned by the thread that runs it.

    It is the Output of its Call.
    """

    __slots__ = ("_body", "call")

    def __init__(self, context: ServiceContext, writer: Writer, base: Environ, head: RequestHead, body: Body | None) -> None:
        """`base`: the environ of the connection. `body`: None when the request has none."""
        super().__init__(context, writer, base, head)
        self._body = body
        self.call: Call | None = None  # while the application runs; the loop reads it at the deadline

    def run(self) -> QueuedRequest | None:
        """Call the application and send its response. Thread. Returns the connection's next exchange, if one waits."""
        head, writer, context = self.head, self._writer, self._context
        now = self.started_at or monotonic()
        self.started_at = now
        self.queue_seconds = now - self.queued_at if head.noted is None else self._wait_since(self.queued_at, now)
        if self.queue_seconds > _LONG_IN_QUEUE:
            if writer.client_is_gone(finished=self._is_final(now)):
                return self.end_lost()
            if self.thread_wait(now) >= context.shedding.queue_timeout:
                return self.shed(WAITED_TOO_LONG)
        body = self._body
        try:
            if body is None:
                environ = build(self._base, head, BytesIO(), None)
            else:
                environ = build(self._base, head, body.reader(), body.length)
                if body.trailers is not None:
                    environ["starman.trailers"] = body.trailers
        except OSError as error:
            refused = refuse_body(error, head, context.shortages)
            self.drop()
            context.refusal_counts.note(refused.status)
            return self._refuse(refused.status, str(refused))
        call = self._new_call((_HEAD_FACTS if head.method == b"HEAD" else _FACTS)[head.minor], context.date_lines.lines_at(now))
        environ["wsgi.early_hints"] = call.early_hints
        environ["starman.queue_time"] = self.queue_seconds
        self.call = call
        if context.request_timeout:
            self.time_limit = context.request_timeout
        raw = None
        if head.upgrade and writer.thread_socket.fd >= 0:
            raw = environ["gunicorn.socket"] = RawSocket(partial(self._detach, call), partial(writer.duplicate, self))
        call.run(context.application, environ)
        if raw is not None:
            application_forks.end_child()
            raw.release()
            self._note_dropped(raw, call, environ)
        return self._finish(call, environ)

    def url_scheme(self) -> str:
        """As in `QueuedRequest`; as a trusted proxy states it."""
        return cast("str", self._base["wsgi.url_scheme"])

    def _is_final(self, now: float) -> bool:
        """Whether the client has left if it has ended its stream, while the request waits for a thread.

        A proxy ends its stream only when its own client has left: it does not half-close. Other clients may, but not
        for long: see `disconnection`.
        """
        return self.head.noted is not None or now - (self.runnable_at or now) >= HALF_CLOSED_SECONDS

    def is_gone(self, now: float) -> bool:
        """Whether the client has left, as far as the loop has seen. Loop. `now` is monotonic."""
        writer = self._writer
        if writer.state is DEAD:
            return True
        return writer.thread_socket.peer_finished and writer.client_is_gone(finished=self._is_final(now))

    def end_lost(self) -> QueuedRequest | None:
        """The client has left: end without running. The side that has taken the request from the queue."""
        self.lose()
        return self._writer.release(self, False)

    def _wait_since(self, since: float, now: float) -> float:
        """How long the request has waited, also in the proxy if a trusted one says so."""
        waited = now - since
        return waited if self.head.noted is None else waited + cast("float", self._base.get("starman.queue_time", 0.0))

    def thread_wait(self, now: float) -> float:
        """For how long (seconds) the request has waited for a thread, and before that in a proxy. Either side. `now`
        is monotonic."""
        return self._wait_since(self.runnable_at or now, now)

    def shed(self, reason: str) -> QueuedRequest | None:
        """Answer 503 without running. The side that has taken the request from the queue; does not block."""
        context, writer, to_head = self._context, self._writer, self.head.method == b"HEAD"
        with contextlib.suppress(Disconnected):
            unsent = writer.send(self, refusal(503, reason, context.date_lines.lines_at(monotonic()), to_head=to_head), b"")
            if unsent is not None:
                writer.hand_over(self, unsent, last=True)
        self.queue_seconds = self._wait_since(self.queued_at, monotonic())
        self._note_unfinished(503, 0 if to_head else len(reason) + 1, 0.0)
        context.shedding.note(reason)
        self.drop()
        # The end of the connection, so that the client may reach a worker with a free thread.
        return writer.release(self, False)

    def _new_call(self, facts: RequestFacts, date_lines: DateLines) -> Call:
        return Call(facts, self, date_lines)

    def _finish(self, call: Call, environ: Environ) -> QueuedRequest | None:
        """The application has returned. Returns what `run` returns."""
        writer, body, context = self._writer, self._body, self._context
        # The call refers to this exchange. Without the cycle everything is freed at once.
        self.call = None
        if self.time_limit and not finish_in_time(writer, self):
            self._end_late()
            return writer.release(self, False)
        if call.broken:
            writer.abandon(self)
        if body is not None:
            if body.close():
                self._break_off(call)
            self.body_received = self._bytes_received()
        self.status_code, self.body_sent = call.status_code, call.body_sent
        access_log = context.access_log  # read once: the loop may exchange it
        if access_log is not None:
            if context.logs_details:
                access_log.add_request(self._logged(access_log, environ, call, monotonic() - self.started_at))
            else:
                access_log.add(environ, call.status_code, call.body_sent)
        # Last of all: an exception before this resets the connection; one after it would lose the next exchange.
        return writer.release(self, call.persistent)

    # The deadline

    def set_time_limit(self, seconds: float) -> None:
        """As in `QueuedRequest`."""
        set_time_limit(self._writer, self, self.application_seconds(monotonic()) + seconds if seconds else 0.0)

    def expire(self, now: float) -> str:
        """As in `QueuedRequest`."""
        call, context, to_head = self.call, self._context, self.head.method == b"HEAD"
        message = "the request took too long"
        answer = refusal(504, message, context.date_lines.lines_at(now), to_head=to_head)
        ending = expire(self._writer, self, call, answer)
        if ending is Ending.NOT_NOW:
            return ""
        context.executor.finished += 1
        status, sent = (0, 0) if call is None else (call.status_code, call.body_sent)
        if ending is Ending.ANSWERED:
            sent = 0 if to_head else len(message) + 1
        if ending is Ending.ANSWERED or ending is Ending.CUT:
            status = 504
        self._note_unfinished(status, sent, now - self.started_at)
        return str(ending.value)

    def _end_late(self) -> None:
        """The application has returned, or failed, after its deadline: free what it used. Thread."""
        if self._body is not None:
            self._body.discard()
        close_spool(self._writer)

    def final_status(self, call: Call) -> int:
        """The status that the client has received, for hooks: 504 if the deadline has passed before a response."""
        return 504 if self.time_limit == EXPIRED and not call.status_code else call.status_code

    def _logged(self, access_log: RequestLog, environ: Environ, call: Call, seconds: float) -> LoggedRequest:
        """What the access log says of this request, whose application ran for `seconds`."""
        times = (self.queue_seconds, seconds)
        received = self._bytes_received()
        return access_log.make_request(environ, call.status_code, call.body_sent, call.sent_head, times, received)

    def _bytes_received(self) -> int:
        """How many bytes of the request's body have arrived."""
        return 0 if self._body is None else self._body.length or 0

    def _finish_body(self, call: Call) -> None:
        """Finish the body before `_finish` does, so that the status is final (`request_hooks`)."""
        body = self._body
        if body is not None:
            if body.close():
                self._break_off(call)
            self._body = FinishedBody(body.length)

    def _refuse(self, status: int, reason: str) -> QueuedRequest | None:
        """Answer instead of calling the application, and end the connection."""
        context = self._context
        with contextlib.suppress(Disconnected):
            to_head = self.head.method == b"HEAD"
            self._send_own(refusal(status, reason, context.date_lines.lines_at(monotonic()), to_head=to_head), last=True)
        access_log = context.access_log
        if access_log is not None:
            access_log.add_refusal(self._base["REMOTE_ADDR"], status)
        self.status_code = status
        return self._writer.release(self, False)

    def _break_off(self, call: Call) -> None:
        """The application has returned, and its body has failed. Only a `StreamedExchange` has such a body."""

    def _note_dropped(self, raw: RawSocket, call: Call, environ: Environ) -> None:
        """Log a response that is dropped because the application has taken the connection: its client gets an empty
        reply."""
        if raw.taken and call.status_code != 101:
            call.status_code = 101
            log.warning(
                f"a response is dropped: the application has taken the connection (gunicorn.socket): {described(environ)}"
            )

    def _detach(self, call: Call) -> DetachedConnection:
        """Give the connection to the application: there will be no response."""
        self.begin_wait()
        try:
            descriptor, relay = self._writer.detach(self)
        except BaseException:
            self.end_wait()
            raise
        if isinstance(relay, OSError):
            os.close(descriptor)
            raise relay
        call.detach()
        return DetachedConnection(descriptor, relay, self._context)

    def abandon(self, error: BaseException) -> None:
        """`run` failed by a defect of the server or for lack of memory: reset the connection, and log it.

        Thread. Never raises.
        """
        free_frames_of(error)
        self.call = None
        expired = self.time_limit == EXPIRED
        for step in (self._reset, self._end_late if expired else self.drop, lambda: self._log_defect(error)):
            try:
                step()
            except BaseException:  # nothing more can be done, and the thread has to go on
                continue

    def _reset(self) -> None:
        self.status_code = 500
        try:
            self._writer.abandon(self)
        finally:
            self._writer.release(self, False)

    def _log_defect(self, error: BaseException) -> None:
        if self.is_interrupted and isinstance(error, RequestTimeout):
            return
        request = f"{self.head.method.decode('latin-1')} {self.head.target.decode('latin-1')}"
        log.error(f"an exchange failed inside starman: {request}\n{format_exception(error)}")

    def drop(self) -> None:
        """The request will not run, because its client is gone: free its body. Either side; does not block."""
        if self._body is not None:
            self._body.discard()

    def lose(self) -> None:
        """The request will not run, because its client is gone: log it, and free its body. Either side; does not
        block."""
        self.queue_seconds = self._wait_since(self.queued_at, monotonic())
        self._note_unfinished(0, 0, 0.0)
        self.drop()

    def _note_unfinished(self, status_code: int, body_bytes: int, seconds: float) -> None:
        """Count and log a request that no thread will: it has left the queue without running, or its deadline has
        passed after the application has run for `seconds`. Either side."""
        self.body_sent, self.body_received = body_bytes, self._bytes_received()
        self._context.executor.request_counts.add_unrun(self, status_code, monotonic())
        access_log = self._context.access_log
        if access_log is not None:
            environ = build(self._base, self.head, BytesIO(), None)
            environ["starman.queue_time"] = self.queue_seconds
            times = (self.queue_seconds, seconds)
            access_log.add_not_run(access_log.make_request(environ, status_code, body_bytes, None, times, self.body_received))
