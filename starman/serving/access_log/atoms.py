"""The atoms of a custom format: how each takes its value from a request. Any thread.

The atoms of one letter are gunicorn's, with the same values; the others are starman's own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

from starman.log.tracebacks import safe_text
from starman.serving.access_log.log_times import CommonTime
from starman.serving.access_log.logged_request import CLIENT_ADDRESS, WORKER_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.access_log.logged_request import LoggedRequest

    # None: there is no value.
    Getter = Callable[[LoggedRequest], str | int | float | None]

_MILLION: Final = 1_000_000
_SPECIAL_FIELDS: Final = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH"}
_times = CommonTime()


def getter_of(name: str) -> Getter:
    """The function that takes the value of the atom `name` from a request: "h", or "{user-agent}i"."""
    if name.startswith("{"):
        text, kind = name[1:-2], name[-1]
        if kind == "i":
            return _environ_getter(_SPECIAL_FIELDS.get(text.lower()) or "HTTP_" + text.upper().replace("-", "_"))
        return _response_getter(text.lower()) if kind == "o" else _any_case_getter(text)
    return _GETTERS[name]


def _environ_getter(key: str) -> Getter:
    def get(request: LoggedRequest) -> str | None:
        value: Any = request.environ.get(key)
        return value if type(value) is str or value is None else safe_text(value)

    return get


def _any_case_getter(key: str) -> Getter:
    """As in gunicorn, the case of a key of the environ does not matter."""
    keys = (key, key.upper(), key.lower())

    def get(request: LoggedRequest) -> str | None:
        environ: dict[Any, Any] = request.environ
        for each in keys:
            if each in environ:
                value = environ[each]
                return value if type(value) is str else safe_text(value)
        return None

    return get


def _response_getter(name: str) -> Getter:
    def get(request: LoggedRequest) -> str | None:
        head = request.response_head
        return None if head is None else head.last_value(name)

    return get


def _request_line(request: LoggedRequest) -> str | None:
    if request.is_refusal:
        return None
    return f"{request.text('REQUEST_METHOD')} {request.text('REQUEST_URI')} {request.text('SERVER_PROTOCOL')}"


def _microseconds(request: LoggedRequest) -> int:
    return round(request.seconds * _MILLION)


def _decimal_seconds(request: LoggedRequest) -> str:
    seconds, fraction = divmod(_microseconds(request), _MILLION)
    return f"{seconds}.{fraction:06d}"


def _worker(request: LoggedRequest) -> int | None:
    number = request.text(WORKER_NUMBER)
    return int(number) if number is not None and number.isascii() and number.isdecimal() and len(number) < 10 else None


def _trace_id(request: LoggedRequest) -> str | None:
    trace = request.trace()
    return None if trace is None else trace[0]


def _span_id(request: LoggedRequest) -> str | None:
    trace = request.trace()
    return None if trace is None else trace[1]


_GETTERS: Final[dict[str, Getter]] = {
    "h": _environ_getter(CLIENT_ADDRESS),
    "l": lambda request: None,
    "u": lambda request: request.user(),
    "t": lambda request: f"[{_times.at(request.unix_time)}]",
    "r": _request_line,
    "s": lambda request: request.status_code,
    "m": _environ_getter("REQUEST_METHOD"),
    "U": _environ_getter("PATH_INFO"),
    "q": _environ_getter("QUERY_STRING"),
    "H": _environ_getter("SERVER_PROTOCOL"),
    "b": lambda request: request.body_bytes,
    "B": lambda request: request.body_bytes,
    "f": _environ_getter("HTTP_REFERER"),
    "a": _environ_getter("HTTP_USER_AGENT"),
    "p": lambda request: f"<{os.getpid()}>",
    "T": lambda request: _microseconds(request) // _MILLION,
    "M": lambda request: _microseconds(request) // 1000,
    "D": _microseconds,
    "L": _decimal_seconds,
    "queue_time": lambda request: f"{request.queue_seconds:.6f}",
    "application_time": lambda request: f"{request.application_seconds:.6f}",
    "bytes_received": lambda request: request.bytes_received,
    "worker": _worker,
    "thread": lambda request: request.thread,
    "request_id": _environ_getter("HTTP_X_REQUEST_ID"),
    "trace_id": _trace_id,
    "span_id": _span_id,
}
