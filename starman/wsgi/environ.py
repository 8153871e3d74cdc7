"""Builds the environ of a request, a plain dict (PEP 3333, RFC 3875 §4.1).

The keys of a listener are set once (`template`), those of a connection once per connection (`for_connection`), and
the others for each request (`build`). os.environ is left out, because a client's field could imitate its variables.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import unquote_to_bytes

from starman.proto.events import RequestHead
from starman.wsgi.filewrapper import FileWrapper

if TYPE_CHECKING:
    from typing import TextIO

Environ = dict[str, Any]

# Two fields have names of their own in CGI. The body is passed decoded, so Transfer-Encoding is left out. Proxy must
# not become HTTP_PROXY (httpoxy).
_SPECIAL: Final = {"content-type": "CONTENT_TYPE", "content-length": "CONTENT_LENGTH", "transfer-encoding": "", "proxy": ""}
# What `for_connection` sets, and `build` for every request.
_OF_A_CONNECTION: Final = ("REMOTE_ADDR", "REMOTE_PORT")
_OF_A_REQUEST: Final = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "REQUEST_URI", "RAW_URI", "SERVER_PROTOCOL", "wsgi.input")
# An int: CPython looks for bytes in bytes only after it has raised and dropped an exception.
_PERCENT: Final = ord("%")
# Values that nearly all requests have, decoded in advance.
_COMMON: Final = {
    text.encode(): text for text in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HTTP/1.0", "HTTP/1.1")
}
_MOST_SPELLINGS: Final = 1024
_LONGEST_SPELLING: Final = 64
# Maps a field name as received to its key, or to "" if the field is not passed on. Any thread, without a lock: all
# threads find the same key for a name.
_spellings: Final[dict[bytes, str]] = {}


def template(*, server: tuple[str, int], secure: bool, errors: TextIO, threads: bool, processes: bool, software: str) -> Environ:
    """The keys that all requests of one listener share. `server`: SERVER_NAME and SERVER_PORT."""
    return {
        # All keys are present from the start: a copy of such a dict is one block of memory, and setting a key does
        # not resize it.
        **dict.fromkeys(_OF_A_CONNECTION),
        **dict.fromkeys(_OF_A_REQUEST),
        "SCRIPT_NAME": "",
        "starman.queue_time": 0.0,
        "SERVER_NAME": server_name(server[0]),
        "SERVER_PORT": str(server[1]),
        "SERVER_SOFTWARE": software,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if secure else "http",
        "wsgi.errors": errors,
        "wsgi.multithread": threads,
        "wsgi.multiprocess": processes,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
        "wsgi.file_wrapper": FileWrapper,
    }


def for_connection(listener: Environ, peer: object, server: object) -> Environ:
    """The template with the addresses of a connection, as the socket returns them. `server` None: keep those of the
    listener."""
    environ = listener.copy()
    environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = endpoint(peer)
    if server is not None:
        name, environ["SERVER_PORT"] = endpoint(server)
        environ["SERVER_NAME"] = server_name(name)
    return environ


def endpoint(address: object) -> tuple[str, str]:
    """Host and port of an INET address. For a UNIX socket, an IP address and a number too, because frameworks expect
    them."""
    if isinstance(address, tuple) and len(address) >= 2:
        host = str(address[0])
        # On a dual-stack listener, IPv4 clients have addresses such as ::ffff:1.2.3.4.
        return host.removeprefix("::ffff:") if "." in host else host, str(address[1])
    return "127.0.0.1", "0"


def server_name(host: str) -> str:
    """A host in the form of SERVER_NAME: an IPv6 address in brackets, as in a URL (RFC 3875 §4.1.14; PEP 3333, "URL
    Reconstruction"), and without its zone, which has a meaning on this machine only."""
    return f"[{host.partition('%')[0]}]" if ":" in host else host


def build(connection: Environ, head: RequestHead, body: BinaryIO, body_length: int | None) -> Environ:
    """Build the environ of one request. `body_length`: the length of the decoded body (bytes); None: no body,
    or an unknown length."""
    environ = connection.copy()
    path, query = head.path, head.query
    target = head.target.decode("latin-1")
    environ["REQUEST_METHOD"] = _COMMON.get(head.method) or head.method.decode("latin-1")
    if path == head.target and _PERCENT not in path:
        environ["PATH_INFO"] = target
    else:
        environ["PATH_INFO"] = (unquote_to_bytes(path) if _PERCENT in path else path).decode("latin-1")
    environ["QUERY_STRING"] = query.decode("latin-1") if query else ""
    environ["REQUEST_URI"] = environ["RAW_URI"] = target
    environ["SERVER_PROTOCOL"] = _COMMON.get(head.version) or head.version.decode("latin-1")
    environ["wsgi.input"] = body
    for name, value in head.fields:
        key = _spellings.get(name)
        if key is None:
            key = _learn(name)
        if key:
            text = value.decode("latin-1")
            if key in environ:
                text = f"{environ[key]}{'; ' if key == 'HTTP_COOKIE' else ', '}{text}"
            environ[key] = text
    host = head.host
    if not host:
        # An empty Host is left out, so that SERVER_NAME is used instead (PEP 3333, "URL Reconstruction"): frameworks
        # only check whether the key exists.
        environ.pop("HTTP_HOST", None)
    elif not target.startswith("/"):
        # RFC 9112 §3.2.2: the host of an absolute-form target replaces the field.
        environ["HTTP_HOST"] = host.decode("latin-1")
    if body_length is not None:
        environ["CONTENT_LENGTH"] = str(body_length)
    return environ


def _learn(name: bytes) -> str:
    """The environ's key for a field name; "" if the field is not passed on. The table is limited, because clients fill
    it.

    A name with "_" is dropped: the same name with "-" has the same key, and a proxy may have checked only one of them.
    """
    text = name.decode("latin-1").lower()
    key = "" if "_" in text else _SPECIAL.get(text)
    if key is None:
        key = "HTTP_" + text.upper().replace("-", "_")
    if len(_spellings) < _MOST_SPELLINGS and len(name) <= _LONGEST_SPELLING:
        _spellings[name] = key
    return key
