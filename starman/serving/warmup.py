"""Sends warm-up requests to the application before any client does, so that it has loaded and cached what it needs.

A warm-up request goes the way of every request, from bytes to a whole response, but without connection and thread: the
response is dropped.
"""

from __future__ import annotations

import sys
from io import BytesIO
from time import monotonic
from typing import TYPE_CHECKING

from starman import application_forks
from starman.errors import ProtocolError, WarmUpError
from starman.hooks import worker_number
from starman.proto.events import Limits, RequestHead
from starman.proto.request import RequestParser
from starman.proto.response import RequestFacts
from starman.serving.context import SOFTWARE
from starman.serving.dates import DateLinesCache
from starman.wsgi.call import Call
from starman.wsgi.environ import Environ, build, for_connection, template

if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.wsgi.call import Application

# True in the environ of a warm-up request, so that an application can recognise it, to avoid side effects for example.
MARK = "starman.warm_up"

_LOWEST_ERROR = 500


def warm_up(application: Application, settings: Settings) -> None:
    """Call `application` with a GET request for each target of the setting `warm_up`, and drop the responses.

    The requests have `Host: localhost`. Raises WarmUpError for the first incomplete response, and for a status of 500
    or above; the exception of the application is in the error log then. Main thread of a mold or worker, before the
    loop and before any thread.
    """
    for target in settings.warm_up:
        output = _DiscardingOutput()
        call = Call(RequestFacts(1, False), output, DateLinesCache("").lines_at(monotonic()))
        environ = _environ(target, settings)
        environ["wsgi.early_hints"] = call.early_hints
        call.run(application, environ)
        application_forks.end_child()
        if call.status_code >= _LOWEST_ERROR:
            raise WarmUpError(f"the warm-up request for {target} was answered with {call.status_code}")
        if not output.ended:
            raise WarmUpError(f"the response to the warm-up request for {target} is incomplete")


def _environ(target: str, settings: Settings) -> Environ:
    listener = template(
        server=("localhost", 80),
        secure=False,
        errors=sys.stderr,
        threads=settings.threads > 1,
        processes=settings.workers > 1,
        software=SOFTWARE,
    )
    listener["starman.worker_number"] = worker_number()
    connection = for_connection(listener, ("127.0.0.1", 0), None)
    return {**build(connection, _head(target), BytesIO(), None), MARK: True}


def _head(target: str) -> RequestHead:
    size = len(target) + 100
    parser = RequestParser(Limits(line_bytes=size, fields=10, field_bytes=size, head_bytes=2 * size, body_bytes=0))
    try:
        parser.receive_data(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % target.encode("ascii"))
        head = parser.next_event()
    except ProtocolError as error:
        raise WarmUpError(f"cannot make a warm-up request for {target}: {error}") from None
    assert isinstance(head, RequestHead)
    return head


class _DiscardingOutput:
    """The Output of a warm-up call: drops the response. ended: whether the response is complete."""

    __slots__ = ("ended",)

    def __init__(self) -> None:
        self.ended = False

    def may_persist(self) -> bool:
        return True

    def on_empty_block(self, sent: int) -> None:
        """Does nothing: a warm-up request may take any time."""

    def send(self, data: bytes, *, last: bool, head: bytes = b"") -> None:
        self.ended = last

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        self.ended = True

    def harakiri(self) -> None:
        """Does nothing: no client is served yet."""
