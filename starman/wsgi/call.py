"""Calls a WSGI application for one request and sends its response: `start_response`, `write`, iteration, `close`, the
500.

Bytes go to an `Output`, which raises Disconnected when the client has disconnected.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from starman import application_forks, log
from starman.errors import Disconnected
from starman.log.tracebacks import free_frames_of
from starman.proto.response import (
    CHUNKED,
    CLOSE_DELIMITED,
    CONTENT_LENGTH,
    LAST_CHUNK,
    NO_BODY,
    DateLines,
    RequestFacts,
    ResponseHead,
    chunk,
    interim,
    refusal,
)
from starman.wsgi.environ import Environ
from starman.wsgi.failure import described, log_failure, not_bytes
from starman.wsgi.filewrapper import SMALL_FILE, FileWrapper, read_part
from starman.wsgi.output import Output
from starman.wsgi.response_state import BEGUN, ENDED, NOTHING, STARTED

_NO_ENVIRON: Final[Environ] = {}
Application = Callable[[Environ, Callable[..., Callable[[bytes], object]]], Iterable[bytes]]


class Call:
    """One call of the application. Used by one thread.

    After `run`:
    persistent: whether the connection may serve another request.
    broken: whether the response is incomplete, and an orderly close would look like its end; reset the connection
    then.
    status_code, body_sent: the status and the bytes of the body that were sent; 0 if none. The status is also 0 if the
    client left before the response was complete.
    """

    __slots__ = (
        *("_detached", "_environ", "_excess", "_facts", "_framing", "_head", "_known_length", "_left", "_output"),
        *("_date_lines", "_state", "body_sent", "broken", "persistent", "status_code"),
    )

    _environ: Environ

    def __init__(self, facts: RequestFacts, output: Output, date_lines: DateLines) -> None:
        self._facts = facts
        self._output = output
        self._date_lines = date_lines
        self._state = NOTHING
        self._head: ResponseHead | None = None
        self._framing = NO_BODY
        self._known_length: int | None = None
        self._left = 0
        self._excess = False
        self._detached = False
        self.persistent = False
        self.broken = False
        self.status_code = 0
        self.body_sent = 0

    def start_response(self, status: object, headers: Iterable[Any], exc_info: Any = None) -> Callable[[object], None]:
        """PEP 3333. Validates at once, but sends nothing: the head is sent with the first block that is not empty.

        status: a str. headers: a list of pairs of str. exc_info: the result of sys.exc_info(). The annotations accept
        any object, here and in the other methods that the application calls, because the errors of compiled code
        would not help its author.
        """
        if exc_info:
            try:
                if self._state in (BEGUN, ENDED):
                    if exc_info[1] is None:
                        raise AssertionError("start_response was called again after the response had begun")
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._head is not None:
            raise AssertionError("start_response was called twice, the second time without exc_info")
        self._head = ResponseHead(status, headers)
        self._state = STARTED
        return self.write

    def write(self, data: object) -> None:
        """The `write` of PEP 3333: send a block now."""
        self._block(data)

    def early_hints(self, headers: Iterable[Any]) -> None:
        """`wsgi.early_hints`: send 103 Early Hints (RFC 8297) before the response. Sends nothing to an HTTP/1.0
        client."""
        if self._state in (BEGUN, ENDED):
            raise AssertionError("early hints must be sent before the response begins")
        if self._facts.minor:
            self._output.send(b"", head=interim(103, headers), last=False)

    @property
    def has_begun(self) -> bool:
        """Whether a part of the response may have been sent. Any thread: it is set before anything is sent."""
        return self._state is BEGUN or self._state is ENDED

    @property
    def is_complete(self) -> bool:
        """Whether the whole response was passed on to be sent. Any thread."""
        if self._state is BEGUN:
            return self._framing is NO_BODY or (self._framing is CONTENT_LENGTH and not self._left)
        return self._state is ENDED

    @property
    def ends_with_connection(self) -> bool:
        """Whether the end of the connection is the end of the response. Any thread, after it has begun."""
        return self._framing is CLOSE_DELIMITED

    @property
    def sent_head(self) -> ResponseHead | None:
        """The application's head of the response; None if the server has answered instead, or nothing was sent
        whole."""
        head = self._head
        return head if head is not None and head.status_code == self.status_code else None

    def detach(self) -> None:
        """Note that the application has taken over the connection, for another protocol: no response is sent."""
        self._state = ENDED
        self._detached = True
        self.status_code = 101

    def run(self, application: Application, environ: Environ) -> None:
        """Call the application and send its response, or a 500. Catches every exception of the application."""
        iterable: Any = None
        self._environ = environ
        try:
            try:
                iterable = application(environ, self.start_response)
                self._respond(iterable)
            finally:
                self._close(iterable, environ)
        except Disconnected:
            self.persistent = False
            self.status_code = 0
        except BaseException as error:  # SystemExit, too: one request must not end the worker
            self._failed(error, environ)
        # The environ refers to this call (early_hints): without this, only the garbage collector would free both.
        self._environ = _NO_ENVIRON

    def _respond(self, iterable: Any) -> None:
        if self._detached:
            self.status_code = 101 if self._head is None else self._head.status_code  # nothing is sent; the output may log this
            return
        kind = type(iterable)
        if kind is list or kind is tuple:
            data = iterable[0] if len(iterable) == 1 else b"".join(iterable)
            if self._state is STARTED:
                if not isinstance(data, bytes):
                    raise not_bytes(data)
                self._known_length = len(data)
                self._whole(data)
                return
            self._block(data)
        elif kind is FileWrapper and self._file(iterable):
            return
        elif iterable is None or isinstance(iterable, (str, bytes, bytearray)):
            # Iterating would give the numbers of bytes or the characters of a str, and a confusing error.
            what = "None" if iterable is None else f"{kind.__name__} itself"
            raise TypeError(f"the application must return an iterable of bytes, not {what}")
        else:
            for block in self._blocks(iterable):
                self._block(block)
                if self._excess or (self._framing is NO_BODY and self._state is BEGUN):
                    break  # nothing more can be sent; the iterable ends with close()
        self._end()

    def _blocks(self, iterable: Iterable[object]) -> Iterable[object]:
        """The blocks of an iterable that is sent while the application produces it."""
        return iterable

    def _begin(self) -> bytes:
        """Return the encoded head, right before the first block is sent."""
        head = self._head
        if head is None:
            raise AssertionError("the application sent a body before it called start_response")
        if self._environ.get("starman.harakiri"):
            self._output.harakiri()
        persistent = self._output.may_persist()
        encoded, self._framing, self.persistent = head.finish(self._facts, self._known_length, persistent, self._date_lines)
        if self._framing is CONTENT_LENGTH:
            self._left = head.content_length if head.content_length is not None else self._known_length or 0
        self.status_code = head.status_code
        self._state = BEGUN
        return encoded

    def _whole(self, data: bytes) -> None:
        """Send a complete response at once: the usual case."""
        encoded = self._begin()
        if self._framing is NO_BODY:
            self._output.send(encoded, last=True)
            self._state = ENDED
            return
        if len(data) != self._left:
            data = self._cut_to_length(data)
            if self._left:
                self._fell_short()
        self._output.send(data, head=encoded, last=True)
        self.body_sent = len(data)
        self._state = ENDED

    def _block(self, data: object) -> None:
        """Send one block of a response that may go on."""
        if not isinstance(data, bytes):
            raise not_bytes(data)
        if not data:
            if self._state is not ENDED:
                self._output.on_empty_block(self.body_sent)
            return
        if self._state is ENDED:
            raise AssertionError("the response has ended: nothing more can be written")
        encoded = b"" if self._state is BEGUN else self._begin()
        framing = self._framing
        if framing is NO_BODY:
            if encoded:
                self._output.send(encoded, last=True)
            return
        complete = False
        if framing is CONTENT_LENGTH:
            data = self._cut_to_length(data)
            complete = not self._left
        if encoded or data:
            # With the last byte of a known length the response is complete, so the thread need not wait for a slow
            # client.
            self._output.send(chunk(data) if framing is CHUNKED else data, head=encoded, last=complete)
            self.body_sent += len(data)

    def _cut_to_length(self, data: bytes) -> bytes:
        """Cut `data` at Content-Length: the client would read more bytes as the next response."""
        if self._framing is CONTENT_LENGTH:
            if len(data) > self._left:
                data = data[: self._left]
                if not self._excess:
                    log.error(
                        "the application sent more bytes than its Content-Length; the excess is dropped: "
                        f"{described(self._environ)}"
                    )
                self._excess = True
            self._left -= len(data)
        return data

    def _end(self) -> None:
        """End the response, when the iterable is exhausted."""
        encoded = b""
        if self._state is not BEGUN:
            if self._head is None:
                raise AssertionError("the application returned without calling start_response")
            self._known_length = 0
            encoded = self._begin()
        if self._framing is CONTENT_LENGTH and self._left:
            self._fell_short()
        if self._framing is CHUNKED:
            encoded += LAST_CHUNK
        if encoded:
            self._output.send(encoded, last=True)
        self._state = ENDED

    def _fell_short(self) -> None:
        """Close the connection after fewer bytes than Content-Length: nothing else shows the client that bytes are
        missing."""
        self.persistent = False
        log.error(
            f"the application sent {self._left} bytes fewer than its Content-Length, so the connection is closed: "
            f"{described(self._environ)}"
        )

    def _file(self, wrapper: FileWrapper) -> bool:
        """Send a file by its descriptor, unless bytes of the response were sent before. Returns whether it was
        sent."""
        if self._state is not STARTED or self._head is None or self._facts.is_head:
            return False
        region = wrapper.region()
        if region is None:
            return False
        fd, offset, available = region
        promised = self._head.content_length
        count = available if promised is None else min(available, promised)
        if count <= SMALL_FILE:
            # Small files are read before the head is made: files under /sys report 4,096 bytes but contain only a few.
            data = read_part(fd, offset, count)
            self._known_length = len(data)
            self._whole(data)
            return True
        self._known_length = available
        encoded = self._begin()
        if self._framing is not CONTENT_LENGTH:
            self._output.send(encoded, last=True)
            self._end()
            return True
        self._left -= count
        if self._left:
            self._fell_short()
        self._output.send_file(encoded, fd, offset, count)
        self.body_sent = count
        self._state = ENDED
        return True

    def _close(self, iterable: Any, environ: Environ) -> None:
        """Call close() of the iterable, once, in any case. Its error does not affect a response that was sent
        completely."""
        if type(iterable) is list and self._known_length is not None:
            return  # the usual case: a list has no close(), and the application has not run since the head was made
        try:
            close = getattr(iterable, "close", None)
            if close is not None:
                close()
        except BaseException as error:  # as above
            if self._state is not ENDED:
                raise
            log_failure(error, environ, "close() of the response failed")
        finally:
            if environ.get("starman.harakiri"):
                self._output.harakiri()

    def _failed(self, error: BaseException, environ: Environ) -> None:
        """Handle an exception of the application: send a 500 if nothing was sent, else abort the response.

        The client gets no details.
        """
        application_forks.end_child(error)
        if self._detached and issubclass(type(error), (StopIteration, ConnectionError)):
            return  # flask-sock and Flask-SocketIO raise these when no response follows
        free_frames_of(error)
        what = "the application failed"
        if self._state is ENDED:
            what += " after its response"
        elif self._state is BEGUN:
            self.persistent, self.broken = False, self._framing is CLOSE_DELIMITED
        else:
            self._answer_failure()
        # Logged after the 500: formatting an exception can take long, and runs code of the application.
        log_failure(error, environ, what)

    def _answer_failure(self) -> None:
        """Send a 500, when nothing was sent."""
        self.persistent, self.status_code = False, 500
        self._state = BEGUN
        if not self._facts.is_head:
            self.body_sent = len(b"Internal Server Error\n")
        try:
            self._output.send(refusal(500, "Internal Server Error", self._date_lines, to_head=self._facts.is_head), last=True)
        except Disconnected:
            self.status_code = self.body_sent = 0
        self._state = ENDED
