"""The formats `combined` and `common`: `host - user [time] "request" status bytes "referrer" "user agent"`, the second
without the last two."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman.log.tracebacks import safe_text
from starman.serving.access_log.escaping import escape, word
from starman.serving.access_log.line_format import LineFormat
from starman.serving.access_log.log_times import CommonTime
from starman.serving.access_log.logged_request import CLIENT_ADDRESS, CLIENT_LEFT, basic_user

if TYPE_CHECKING:
    from starman.serving.access_log.logged_request import LoggedRequest
    from starman.wsgi.environ import Environ

# The bytes that a line may contain unescaped, and the quotes and the newline that every line has.
_PLAIN = bytes(byte for byte in range(0x20, 0x7F) if byte not in b'"\\')
_OUR_OWN = b'""""""\n'


class CombinedFormat(LineFormat):
    """The combined format, and the common one."""

    __slots__ = ("_cut", "_times")

    def __init__(self, *, common: bool = False) -> None:
        self._times = CommonTime()
        self._cut = common

    def line(self, request: LoggedRequest) -> bytes:
        """As in `LineFormat`."""
        stamp = self._times.at(request.unix_time)
        if request.is_refusal:
            line = refusal_line(request.text(CLIENT_ADDRESS) or "-", request.status_code, stamp)
        else:
            line = combined_line(request.environ, request.status_code, request.body_bytes, stamp)
        return b'"'.join(line.split(b'"')[:3]).rstrip() + b"\n" if self._cut else line


def combined_line(environ: Environ, status_code: int, body_bytes: int, stamp: str) -> bytes:
    """The line of a request. `status_code` 0: the client left before its response was complete. `stamp`: the time."""
    status, size, get = status_code or CLIENT_LEFT, body_bytes or "-", environ.get
    try:
        host, method, protocol = environ[CLIENT_ADDRESS], environ["REQUEST_METHOD"], environ["SERVER_PROTOCOL"]
        line = (
            f'{host!s} - - [{stamp}] "{method!s} {environ["REQUEST_URI"]!s} {protocol!s}" {status} {size}'
            f' "{get("HTTP_REFERER", "-")!s}" "{get("HTTP_USER_AGENT", "-")!s}"\n'
        ).encode("latin-1", "replace")
        # Most lines need no escaping and have no user. Removing all plain characters shows it: only the quotes and
        # the newline of the format are left.
        ordinary = line.translate(None, _PLAIN) == _OUR_OWN and "HTTP_AUTHORIZATION" not in environ
        ordinary = ordinary and type(host) is str and host != "" and " " not in host
    except BaseException:  # the application may have put any object into its environ
        ordinary = False
    return line if ordinary else _escaped(environ, stamp, status, size)


def refusal_line(peer: str, status_code: int, stamp: str) -> bytes:
    """The line of a message that was refused before it became a request."""
    return f'{peer} - - [{stamp}] "-" {status_code} - "-" "-"\n'.encode("latin-1", "replace")


def _escaped(environ: Environ, stamp: str, status: int, size: int | str) -> bytes:
    """Return the line for any environ, escaped and with the user."""

    def get(key: str) -> str:
        return escape(text(key))

    def text(key: str) -> str:
        try:
            return safe_text(environ.get(key, "-"))
        except BaseException:  # it has a key that cannot be compared
            return "-"

    request = f"{get('REQUEST_METHOD')} {get('REQUEST_URI')} {get('SERVER_PROTOCOL')}"
    user = word(escape(basic_user(text("HTTP_AUTHORIZATION")) or ""))
    host, referrer, agent = word(get(CLIENT_ADDRESS)), get("HTTP_REFERER"), get("HTTP_USER_AGENT")
    line = f'{host} - {user} [{stamp}] "{request}" {status} {size} "{referrer}" "{agent}"\n'
    return line.encode("latin-1", "replace")
