"""One request and its response: queued by the loop, run by a thread of the pool."""

from __future__ import annotations

import contextlib
import os
from functools import partial
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING, Final, cast

from starman import application_forks, log
from starman.errors import Disconnected
from starman.log.tracebacks import format_exception, free_frames_of
from starman.proto.events import RequestHead
from starman.proto.response import DateLines, RequestFacts, refusal
from starman.serving.connections.disconnection import HALF_CLOSED_SECONDS
from starman.serving.exchange_body import Body, FinishedBody
from starman.serving.executors.queued_request import QueuedRequest
from starman.serving.gunicorn_socket.detached import DetachedConnection
from starman.serving.gunicorn_socket.rawsocket import RawSocket
from starman.serving.resource_shortage import refuse_body
from starman.serving.sending.corking import Pace
from starman.serving.sending.sendfile import FileRange
from starman.serving.sending.writer_state import DEAD
from starman.wsgi.call import Call
from starman.wsgi.environ import Environ, build
from starman.wsgi.failure import described

if TYPE_CHECKING:
    from starman.serving.access_log.access_log import AccessLog
    from starman.serving.access_log.logged_request import LoggedRequest
    from starman.serving.context import ServiceContext
    from starman.serving.sending.writer import Writer

# A request that has waited this long (seconds) runs only if its client is still there (hazard 5).
_LONG_IN_QUEUE: Final = 0.05

# By the minor version: there are only four.
_FACTS: Final = (RequestFacts(0, False), RequestFacts(1, False))
_HEAD_FACTS: Final = (RequestFacts(0, True), RequestFacts(1, True))


class Exchange(QueuedRequest):
    """One request and its response: made by the loop, then owned by the thread that runs it.

    It is the Output of its Call.
    """

    __slots__ = ("_base", "_body", "_context", "_pace", "_writer")

    def __init__(self, context: ServiceContext, writer: Writer, base: Environ, head: RequestHead, body: Body | None) -> None:
        """`base`: the environ of the connection. `body`: None when the request has none."""
        super().__init__(head)
        self._context = context
        self._writer = writer
        self._base = base
        self._body = body
        self._pace: Pace | None = None  # of the blocks of a response that has several

    def run(self) -> QueuedRequest | None:
        """Call the application and send its response. Thread. Returns the connection's next exchange, if one waits."""
        head, writer, context = self.head, self._writer, self._context
        now = monotonic()
        self.started_at = now
        self.queue_seconds = now - self.queued_at
        if self.queue_seconds > _LONG_IN_QUEUE and writer.client_is_gone(finished=self._is_final(now)):
            return self.end_lost()
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
            return self._refuse(refused.status, str(refused))
        call = self._new_call((_HEAD_FACTS if head.method == b"HEAD" else _FACTS)[head.minor], context.date_lines.lines_at(now))
        environ["wsgi.early_hints"] = call.early_hints
        environ["starman.queue_time"] = self.queue_seconds
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
        if self.head.noted is not None:
            return True
        return self.runnable_at > 0.0 and now - self.runnable_at >= HALF_CLOSED_SECONDS

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

    def _new_call(self, facts: RequestFacts, date_lines: DateLines) -> Call:
        return Call(facts, self, date_lines)

    def _finish(self, call: Call, environ: Environ) -> QueuedRequest | None:
        """The application has returned. Returns what `run` returns."""
        writer, body, context = self._writer, self._body, self._context
        if call.broken:
            writer.abandon(self)
        if body is not None:
            if body.close():
                self._break_off(call)
            self.body_received = self._bytes_received()
        self.status_code, self.body_sent = call.status_code, call.body_sent
        if context.access_log is not None:
            if context.logs_details:
                context.access_log.add_request(self._logged(context.access_log, environ, call, monotonic() - self.started_at))
            else:
                context.access_log.add(environ, call.status_code, call.body_sent)
        # Last of all: an exception before this resets the connection; one after it would lose the next exchange.
        return writer.release(self, call.persistent)

    def _logged(self, access_log: AccessLog, environ: Environ, call: Call, seconds: float) -> LoggedRequest:
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
        if context.access_log is not None:
            context.access_log.add_refusal(self._base["REMOTE_ADDR"], status)
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
        for step in (self._reset, self.drop, lambda: self._log_defect(error)):
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
        request = f"{self.head.method.decode('latin-1')} {self.head.target.decode('latin-1')}"
        log.error(f"an exchange failed inside starman: {request}\n{format_exception(error)}")

    def drop(self) -> None:
        """The request will not run, because its client is gone: free its body. Either side; does not block."""
        if self._body is not None:
            self._body.discard()

    def lose(self) -> None:
        """The request will not run, because its client is gone: log it, and free its body. Either side; does not
        block."""
        self._note_not_run(0, 0)
        self.drop()

    def _note_not_run(self, status_code: int, body_bytes: int) -> None:
        """Count and log that the request has left the queue without running. Either side."""
        now = monotonic()
        self.queue_seconds = now - self.queued_at
        self._context.executor.request_counts.add_unrun(self, status_code, now)
        access_log = self._context.access_log
        if access_log is not None:
            environ = build(self._base, self.head, BytesIO(), None)
            environ["starman.queue_time"] = self.queue_seconds
            times, received = (self.queue_seconds, 0.0), self._bytes_received()
            access_log.add_not_run(access_log.make_request(environ, status_code, body_bytes, None, times, received))

    # The Output of the call, in the thread

    def harakiri(self) -> None:
        """The application asks for the end of its process."""
        self._context.harakiri()

    def may_persist(self) -> bool:
        """Whether the connection is kept.

        The client, a setting, or a drain without another request here may forbid it.
        """
        context = self._context
        return self.head.persistent and context.keepalive and (not context.draining or bool(self._writer.pending))

    def on_empty_block(self, sent: int) -> None:
        """The application has nothing to send at the moment: let the loop check whether the client is still there."""
        if self._writer.state is DEAD:
            raise Disconnected
        self.empty_block_at = sent

    def send(self, data: bytes, *, last: bool, head: bytes = b"") -> None:
        """Write to the socket, and leave to the loop what it does not take. Raises Disconnected.

        Waits until the loop has sent it, unless it is the `last` of the response, or too many threads wait already:
        then it is spooled. The last part of a response, and blocks that follow each other at once, may be held back
        (`Corking`).
        """
        if not (head or data):
            return
        writer, corking = self._writer, self._context.executor.corking
        if last:
            if corking.hold_response(writer, self, head, data):
                return
        elif head or self._pace is None:
            self._pace = Pace(monotonic())
        elif self._pace.is_rapid(monotonic()) and corking.hold_block(writer, self, data):
            return
        unsent = writer.send(self, head, data)
        if unsent is not None:
            self._leave(unsent, last=last, may_wait=not last)

    def _send_own(self, message: bytes, *, last: bool) -> None:
        """Send a message of the server itself, a refusal or 100 Continue, without holding it back.

        Raises Disconnected.
        """
        unsent = self._writer.send(self, message, b"")
        if unsent is not None:
            self._leave(unsent, last=last, may_wait=not last)

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """Send a head and a part of a file, and end the response. The loop sends what the socket does not take, from a
        descriptor of its own, so the application may close its file at once. Raises Disconnected."""
        file_range: FileRange | None = None
        try:
            file_range = FileRange(os.dup(fd), offset, count)
            unsent = self._writer.send(self, head, b"")
            if unsent is not None:
                self._leave(unsent, last=False, may_wait=False)
            self._writer.send_file(self, file_range)
            if file_range.count:
                self._writer.hand_over(self, file_range, last=True)
                file_range = None  # the loop's now
        except (OSError, EOFError) as error:
            log.error(f"a file could not be sent whole: {error}")
            raise Disconnected from None
        finally:
            if file_range is not None:
                file_range.close()

    def _leave(self, unsent: memoryview, *, last: bool, may_wait: bool) -> None:
        """Leave to the loop what the socket did not take. Raises Disconnected."""
        try:
            if may_wait and self._hold_up(unsent):
                return
            self._writer.keep(self, unsent, self._context.spool_limits, last=last)
        except OSError as error:
            details = f"{self._base['REMOTE_ADDR']}, {error}"
            self._context.shortages.add(
                "the connection of a client that reads slowly is reset, because its response cannot be kept", details
            )
            self._writer.abandon(self)
            raise Disconnected from None

    def _hold_up(self, unsent: memoryview) -> bool:
        """Leave `unsent` to the loop, and wait until it is sent. False: too many threads wait.

        Raises Disconnected, OSError.
        """
        executor = self._context.executor
        if not executor.begin_wait():
            return False
        self.begin_wait()
        try:
            self._writer.hand_over(self, unsent, last=False)
        finally:
            self.end_wait()
            executor.end_wait()
        return True
