"""The formats `json` (keys of OpenTelemetry), `ecs` (Elastic Common Schema) and `gcp` (Google Cloud Logging): a JSON
object in each line. Any thread.

A member without a value is left out. An environ that the application has spoiled, and bytes beyond ASCII, take a
slower way, which turns everything into text first.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from json.encoder import encode_basestring_ascii as quote
from typing import TYPE_CHECKING, Any, Final

from starman.serving.access_log.escaping import unicode_of
from starman.serving.access_log.line_format import LineFormat
from starman.serving.access_log.log_times import InternetTime
from starman.serving.access_log.logged_request import CLIENT_ADDRESS, WORKER_NUMBER

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.access_log.logged_request import LoggedRequest

# OpenTelemetry's semantic conventions: any other method is `_OTHER`, so that clients cannot make up values.
_METHODS: Final = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY"))
_ECS_VERSION: Final = "8.11.0"
_SERVER_ERROR: Final = 500
_CLIENT_ERROR: Final = 400


class _JsonFormat(LineFormat):
    """What the JSON formats have in common."""

    __slots__ = ("_process_id", "_times")

    def __init__(self) -> None:
        self._times = InternetTime()
        self._process_id = os.getpid()

    def line(self, request: LoggedRequest) -> bytes:
        """As in `LineFormat`."""
        try:
            text = self._object(request)
            # \u00 stands for a control character or for a byte beyond ASCII, which is probably UTF-8.
            ordinary = ("\\" not in text or "\\u00" not in text) and "\x7f" not in text
        except BaseException:  # the application may have put any object into its environ
            ordinary = False
        if not ordinary:
            text = self._object(request.sanitized(as_utf8=True)).replace("\x7f", "\\u007f")
        return f"{text}\n".encode("ascii")

    @abstractmethod
    def _object(self, request: LoggedRequest) -> str:
        """The JSON object of a request. Raises any exception if the environ is spoiled."""


class OpenTelemetryFormat(_JsonFormat):
    """`json`: the attributes of OpenTelemetry's semantic conventions for HTTP servers; starman's own keys begin with
    `starman.`."""

    __slots__ = ()

    def _object(self, request: LoggedRequest) -> str:
        environ, get, status = request.environ, request.environ.get, request.status_code
        begin = f'{{"timestamp":"{self._times.at(request.unix_time)}","client.address":{quote(environ[CLIENT_ADDRESS])}'
        end = f',"process.pid":{self._process_id}}}'
        if request.is_refusal:
            return f'{begin},"http.response.status_code":{status}{end}'
        method = environ["REQUEST_METHOD"]
        path, query = path_and_query(environ["REQUEST_URI"])
        known = f'"{method}"' if method in _METHODS else f'"_OTHER","http.request.method_original":{quote(method)}'
        text = (
            f'{begin},"http.request.method":{known},"url.scheme":{quote(environ["wsgi.url_scheme"])},"url.path":{quote(path)}'
            f',"http.response.status_code":{status},"http.response.body.size":{request.body_bytes}'
            f',"http.request.body.size":{request.bytes_received},"duration":{request.seconds:.6f}'
            f',"network.protocol.version":{quote(environ["SERVER_PROTOCOL"].removeprefix("HTTP/"))}'
        )
        if query is not None:
            text += f',"url.query":{quote(query)}'
        host, port = host_and_port(get("HTTP_HOST") or environ["SERVER_NAME"])
        text += f',"server.address":{quote(host)}'
        if port:
            text += f',"server.port":{port}'
        if "HTTP_USER_AGENT" in environ:
            text += f',"user_agent.original":{quote(environ["HTTP_USER_AGENT"])}'
        if "HTTP_REFERER" in environ:
            text += f',"http.request.header.referer":[{quote(environ["HTTP_REFERER"])}]'
        if "HTTP_AUTHORIZATION" in environ:
            text += _member("user.name", request.user())
        if "HTTP_TRACEPARENT" in environ and (trace := request.trace()):
            text += f',"trace_id":"{trace[0]}","span_id":"{trace[1]}"'
        return text + _of_starman(request) + end


class EcsFormat(_JsonFormat):
    """`ecs`: the fields of the Elastic Common Schema."""

    __slots__ = ()

    def _object(self, request: LoggedRequest) -> str:
        environ, get, status = request.environ, request.environ.get, request.status_code
        address = environ[CLIENT_ADDRESS]
        text = (
            f'{{"@timestamp":"{self._times.at(request.unix_time)}","log.level":"{"info" if status < _SERVER_ERROR else "error"}"'
            f',"message":{quote(_message(request))},"ecs.version":"{_ECS_VERSION}"'
            f',"event.kind":"event","event.category":["web"],"event.type":["access"]'
            f',"event.outcome":"{"success" if status < _CLIENT_ERROR else "failure"}"'
            f',"source.address":{quote(address)}'
        )
        # Elasticsearch drops the whole line if this is no address.
        if address and not address.strip("0123456789abcdefABCDEF.:"):
            text += f',"source.ip":{quote(address)}'
        text += f',"http.response.status_code":{status}'
        if not request.is_refusal:
            path, query = path_and_query(environ["REQUEST_URI"])
            text += (
                f',"http.request.method":{quote(environ["REQUEST_METHOD"])},"url.original":{quote(environ["REQUEST_URI"])}'
                f',"url.path":{quote(path)},"url.scheme":{quote(environ["wsgi.url_scheme"])}'
                f',"http.response.body.bytes":{request.body_bytes},"http.request.body.bytes":{request.bytes_received}'
                f',"event.duration":{round(request.seconds * 1_000_000_000)}'
                f',"http.version":{quote(environ["SERVER_PROTOCOL"].removeprefix("HTTP/"))}'
            )
            if query is not None:
                text += f',"url.query":{quote(query)}'
            host, port = host_and_port(get("HTTP_HOST") or environ["SERVER_NAME"])
            text += f',"url.domain":{quote(host)}'
            if port:
                text += f',"url.port":{port}'
            if "HTTP_USER_AGENT" in environ:
                text += f',"user_agent.original":{quote(environ["HTTP_USER_AGENT"])}'
            if "HTTP_REFERER" in environ:
                text += f',"http.request.referrer":{quote(environ["HTTP_REFERER"])}'
            if "HTTP_AUTHORIZATION" in environ:
                text += _member("user.name", request.user())
            if "HTTP_TRACEPARENT" in environ and (trace := request.trace()):
                text += f',"trace.id":"{trace[0]}","span.id":"{trace[1]}"'
            text += _of_starman(request, "http.request.id", "process.thread.name")
        return f'{text},"process.pid":{self._process_id}}}'


class GcpFormat(_JsonFormat):
    """`gcp`: a LogEntry of Google Cloud Logging with its httpRequest."""

    __slots__ = ("_traces",)

    def __init__(self) -> None:
        super().__init__()
        project = os.environ.get("GOOGLE_CLOUD_PROJECT", "")
        self._traces = f"projects/{project}/traces/" if project else ""

    def _object(self, request: LoggedRequest) -> str:
        environ, get, status = request.environ, request.environ.get, request.status_code
        severity = "ERROR" if status >= _SERVER_ERROR else "WARNING" if status >= _CLIENT_ERROR else "INFO"
        text = (
            f'{{"time":"{self._times.at(request.unix_time)}","severity":"{severity}","message":{quote(_message(request))}'
            f',"httpRequest":{{"status":{status},"remoteIp":{quote(environ[CLIENT_ADDRESS])}'
        )
        if request.is_refusal:
            return f'{text}}},"pid":{self._process_id}}}'
        target = environ["REQUEST_URI"]
        if target.startswith("/"):
            target = f"{environ['wsgi.url_scheme']}://{get('HTTP_HOST') or environ['SERVER_NAME']}{target}"
        # Numbers of 64 bits are strings in the JSON of protocol buffers.
        text += (
            f',"requestMethod":{quote(environ["REQUEST_METHOD"])},"requestUrl":{quote(target)}'
            f',"requestSize":"{request.bytes_received}","responseSize":"{request.body_bytes}"'
            f',"latency":"{request.seconds:.6f}s","protocol":{quote(environ["SERVER_PROTOCOL"])}'
        )
        if "HTTP_USER_AGENT" in environ:
            text += f',"userAgent":{quote(environ["HTTP_USER_AGENT"])}'
        if "HTTP_REFERER" in environ:
            text += f',"referer":{quote(environ["HTTP_REFERER"])}'
        text += "}"
        if "HTTP_AUTHORIZATION" in environ:
            text += _member("user", request.user())
        if "HTTP_TRACEPARENT" in environ and (trace := request.trace()):
            text += f',"logging.googleapis.com/trace":{quote(self._traces + trace[0])}'
            text += f',"logging.googleapis.com/spanId":"{trace[1]}"'
        return f'{text}{_of_starman(request)},"pid":{self._process_id}}}'


def path_and_query(target: str) -> tuple[str, str | None]:
    """The path and the query of a request target, as received. The query is None if there is none."""
    if not target.startswith("/") and "://" in target:  # RFC 9112 §3.2.2: the absolute form
        rest = target.partition("://")[2]
        authority = rest.partition("/")[0].partition("?")[0]
        target = rest[len(authority) :]
        target = target if target.startswith("/") else f"/{target}"
    path, mark, query = target.partition("?")
    return path, query if mark else None


def host_and_port(host: str) -> tuple[str, int | None]:
    """The name and the port of a field Host. The port is None if there is none."""
    name, colon, port = host.rpartition(":")
    if colon and len(port) <= len("65535") and port.isascii() and port.isdigit():
        return name, int(port)
    return host, None


def _message(request: LoggedRequest) -> str:
    """The line for a reader: the request line and the status."""
    environ = request.environ
    if request.is_refusal:
        return f"refused: {request.status_code}"
    return f"{environ['REQUEST_METHOD']} {environ['REQUEST_URI']} {environ['SERVER_PROTOCOL']} {request.status_code}"


def _of_starman(request: LoggedRequest, request_id_key: str = "starman.request_id", thread_key: str = "thread.name") -> str:
    """The members that describe how starman has served the request."""
    environ: dict[str, Any] = request.environ
    text = (
        f',"starman.queue_time":{request.queue_seconds:.6f},"starman.application_time":{request.application_seconds:.6f}'
        f',"{thread_key}":{quote(request.thread)}'
    )
    worker = environ.get(WORKER_NUMBER)
    if worker is not None and str(worker).isdecimal():
        text += f',"starman.worker":{worker}'
    if "HTTP_X_REQUEST_ID" in environ:
        text += f',"{request_id_key}":{quote(environ["HTTP_X_REQUEST_ID"])}'
    return text


def _member(key: str, text: str | None) -> str:
    return "" if text is None else f',"{key}":{quote(unicode_of(text))}'


# By the name of the setting.
FORMATS: Final[dict[str, Callable[[], LineFormat]]] = {"json": OpenTelemetryFormat, "ecs": EcsFormat, "gcp": GcpFormat}
