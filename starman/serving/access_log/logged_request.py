"""What is logged of one request: its environ, its status and bytes, and its times. Made by the exchange, for the
formats that need more than the combined one."""

from __future__ import annotations

import base64
import re
import threading
import time
from typing import TYPE_CHECKING, Final

from starman.log.tracebacks import safe_text
from starman.serving.access_log.escaping import unicode_of

if TYPE_CHECKING:
    from starman.proto.response import ResponseHead
    from starman.wsgi.environ import Environ

# The key of an environ that has the address of the client: the only place where the access log reads it.
CLIENT_ADDRESS: Final = "REMOTE_ADDR"

# The key of an environ that has the number of the worker, from 1 on.
WORKER_NUMBER: Final = "starman.worker_number"

# The client left before its response was complete. Not a status of HTTP: nginx has introduced it, for logs.
CLIENT_LEFT: Final = 499

_NEEDED: Final = (CLIENT_ADDRESS, "REQUEST_METHOD", "REQUEST_URI", "SERVER_NAME", "SERVER_PROTOCOL", "wsgi.url_scheme")

# W3C Trace Context §3.2: version, trace-id, parent-id, flags. Later versions may append more.
_TRACEPARENT: Final = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?")


class LoggedRequest:
    """One request and its response. Used by one thread.

    status_code: as it is logged. body_bytes: of the response that were sent. bytes_received: of the request's body.
    queue_seconds, application_seconds: how long the request waited, and how long it ran until its response was handed
    over. unix_time: when it ended. thread: the name of the thread that ran it. is_refusal: whether the message was
    refused before it became a request: then only its client and status are known.
    """

    __slots__ = (
        *("application_seconds", "body_bytes", "bytes_received", "environ", "is_refusal", "queue_seconds"),
        *("response_head", "status_code", "thread", "unix_time"),
    )

    def __init__(
        self,
        environ: Environ,
        status_code: int,
        body_bytes: int,
        response_head: ResponseHead | None,
        seconds: tuple[float, float],
        bytes_received: int,
    ) -> None:
        """`status_code` 0: the client has left before its response was complete. `response_head`: None if the
        application's head was not sent. `seconds`: in the queue, and in the application."""
        self.environ = environ
        self.is_refusal = False
        self.status_code = status_code or CLIENT_LEFT
        self.body_bytes = body_bytes
        self.response_head = response_head
        self.queue_seconds, self.application_seconds = seconds
        self.bytes_received = bytes_received
        self.unix_time = time.time()
        self.thread = threading.current_thread().name

    @property
    def seconds(self) -> float:
        """How long the request took, from its last byte to the end of its response."""
        return self.queue_seconds + self.application_seconds

    def text(self, key: str) -> str | None:
        """The text of a key of the environ; None if it is missing. Never raises, whatever the application has put
        there."""
        try:
            value = self.environ.get(key)
        except BaseException:  # the environ has a key that cannot be compared
            return None
        return value if value is None or type(value) is str else safe_text(value)

    def sanitized(self, *, as_utf8: bool) -> LoggedRequest:
        """A copy whose environ has all keys that a format needs, and text only; with `as_utf8`, the text that its
        bytes stand for."""
        copy = LoggedRequest.__new__(LoggedRequest)
        for name in LoggedRequest.__slots__:
            setattr(copy, name, getattr(self, name))
        copy.environ = {}
        for key, value in list(self.environ.items()):
            if type(key) is str and value is not None:
                text = safe_text(value)
                copy.environ[key] = unicode_of(text) if as_utf8 else text
        for key in _NEEDED:
            copy.environ.setdefault(key, "-")
        return copy

    def trace(self) -> tuple[str, str] | None:
        """The trace id and the id of the calling span, from the field traceparent (W3C Trace Context); None if there
        is none, or an invalid one."""
        field = self.text("HTTP_TRACEPARENT")
        match = _TRACEPARENT.fullmatch(field.strip()) if field else None
        return None if match is None else (match[1], match[2])

    def user(self) -> str | None:
        """The user name of Basic credentials; None if there is none."""
        return basic_user(self.text("HTTP_AUTHORIZATION"))


def refused(peer: str, status_code: int) -> LoggedRequest:
    """A message of `peer` that was refused before it became a request."""
    request = LoggedRequest({CLIENT_ADDRESS: peer}, status_code, 0, None, (0.0, 0.0), 0)
    request.is_refusal = True
    return request


def basic_user(authorization: str | None) -> str | None:
    """The user name of Basic credentials (RFC 7617), decoded as latin-1; None if there is none."""
    if authorization is None or authorization[:6].lower() != "basic ":
        return None
    try:
        name = base64.b64decode(authorization[6:].strip(), validate=True).partition(b":")[0].decode("latin-1")
    except ValueError:
        return None
    return name or None
