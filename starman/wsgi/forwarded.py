"""Applies the statements of trusted proxies to a request: its client, scheme, host, port, prefix and start.

The fields themselves stay in the environ as they are, also those of other peers, which change nothing. So middleware
that reads them, such as werkzeug's ProxyFix, or Django's SECURE_PROXY_SSL_HEADER, behaves as without this module.
"""

from __future__ import annotations

from time import time
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from starman.config.trusted_peers import TrustedPeers
from starman.errors import ProtocolError
from starman.proto.heads import ANY_UNDERSCORE, note_fields
from starman.proto.syntax import HOST
from starman.wsgi.environ import Environ
from starman.wsgi.forwarded_fields import members, nearest, read_elements
from starman.wsgi.request_start import QUEUE_START, REQUEST_START, seconds_before
from starman.wsgi.underscores import UnderscoredNames

if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.proto.events import RequestHead

_FOR: Final = b"x-forwarded-for"
_HOST: Final = b"x-forwarded-host"
_PORT: Final = b"x-forwarded-port"
_PREFIX: Final = b"x-forwarded-prefix"
_FORWARDED: Final = b"forwarded"
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}

Fields = dict[bytes, list[bytes]]


class _Hop(NamedTuple):
    """Which of the statements counts: that of the last trusted proxy. `place` counts from the end of a list; `length`
    is the length of the list of addresses."""

    place: int
    length: int


class Forwarding:
    """What a service does with the fields of proxies. The loop calls all methods."""

    __slots__ = ("_peers", "_read", "_schemes", "_statements", "_underscored")

    def __init__(self, settings: Settings) -> None:
        self._peers = TrustedPeers(settings.forwarded_allow_ips)
        self._statements = frozenset(settings.forwarded)
        schemes = [text.lower().encode("latin-1").partition(b"=") for text in settings.secure_scheme_headers]
        self._schemes = [(name, value) for name, _, value in schemes]
        self._underscored = UnderscoredNames(settings.forwarder_headers, settings.header_map)
        self._read: set[bytes] = self._fields_to_read() if self._peers.peers else set()
        note_fields(self._read)
        if self._underscored.counts:
            note_fields([ANY_UNDERSCORE])

    def _fields_to_read(self) -> set[bytes]:
        statements = self._statements
        found = {name for word, name in (("port", _PORT), ("prefix", _PREFIX)) if word in statements}
        found |= {REQUEST_START, QUEUE_START} if "start" in statements else set()
        if "rfc7239" in statements:
            return found | ({_FORWARDED} if statements & {"for", "proto", "host"} else set())
        found |= {name for word, name in (("for", _FOR), ("host", _HOST)) if word in statements}
        return found | ({name for name, _ in self._schemes} if "proto" in statements else set())

    def trusts(self, peer: object) -> bool:
        """Whether the peer of a connection, as accept(2) returns its address, is a trusted proxy."""
        return self._peers.trusts(str(peer[0]) if isinstance(peer, tuple) else "")

    def apply(self, base: Environ, head: RequestHead, trusted: bool) -> Environ:
        """Return the environ of the connection as it is for this request: `base` itself, or a changed copy. May change
        the fields, host and path of `head`. Sets `head.noted` to None unless a trusted proxy has stated something.

        `trusted`: what `trusts` returns for the peer. Raises ProtocolError (400) for statements that are malformed or
        contradict each other, and for a name with "_" if such names are refused.
        """
        noted = head.noted
        assert noted is not None
        try:
            script_name = self._underscored.apply(head, noted, trusted) if self._underscored.counts else None
            if not trusted or (script_name is None and self._read.isdisjoint(noted)):
                head.noted = None
                return base
            environ = base.copy()
            host = self._read_forwarded(environ, noted) if "rfc7239" in self._statements else self._read_others(environ, noted)
            self._set_host_and_port(environ, head, host, noted)
            if "start" in self._statements:
                environ["starman.queue_time"] = seconds_before(noted, time())
            if script_name is not None:
                environ["SCRIPT_NAME"] = script_name
            elif "prefix" in self._statements:
                _set_prefix(environ, noted.get(_PREFIX))
        except ProtocolError as error:
            error.to_head = head.method == b"HEAD"
            raise
        return environ

    def _read_others(self, environ: Environ, noted: Fields) -> bytes:
        """Take the client from X-Forwarded-For, and the scheme from the fields of `secure_scheme_headers`. Return the
        stated host."""
        hop = _Hop(0, 0)
        values = noted.get(_FOR) if "for" in self._statements else None
        if values is not None:
            nodes = members(values)
            index, client = nearest(nodes, self._peers.names)
            hop = _Hop(index, len(nodes))
            if client is not None:
                environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], client[1] or "0"
        if "proto" in self._statements:
            _set_scheme(environ, self._is_secure(noted, hop))
        return _single(noted.get(_HOST), hop, "X-Forwarded-Host") if "host" in self._statements else b""

    def _is_secure(self, noted: Fields, hop: _Hop) -> bool | None:
        """Whether the client uses https; None if no field says."""
        secure: bool | None = None
        for name, expected in self._schemes:
            for value in noted.get(name, ()):
                stated = _stated(value, hop).lower()
                if not stated:
                    continue
                # Some proxies name the scheme of a WebSocket.
                found = stated == expected or (stated == b"wss" and expected == b"https")
                if secure is not None and found is not secure:
                    raise ProtocolError(400, "the fields of the proxy contradict each other: is the scheme http or https?")
                secure = found
        return secure

    def _read_forwarded(self, environ: Environ, noted: Fields) -> bytes:
        """Take client and scheme from Forwarded (RFC 7239). Return the stated host."""
        try:
            elements = read_elements(noted.get(_FORWARDED, []))
        except ValueError as error:
            raise ProtocolError(400, str(error)) from None
        if not elements:
            return b""
        index = 0
        if "for" in self._statements:
            index, client = nearest([element.get(b"for", b"") for element in elements], self._peers.names)
            if client is not None:
                environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = client[0], client[1] or "0"
        if "proto" in self._statements:
            scheme = elements[index].get(b"proto", b"").lower()
            _set_scheme(environ, scheme in (b"https", b"wss") if scheme else None)
        return elements[index].get(b"host", b"") if "host" in self._statements else b""

    def _set_host_and_port(self, environ: Environ, head: RequestHead, host: bytes, noted: Fields) -> None:
        """Set SERVER_NAME, SERVER_PORT and the Host field. A port that is the default of the scheme is left out of
        Host."""
        port = _single(noted.get(_PORT), _Hop(0, 0), "X-Forwarded-Port") if "port" in self._statements else b""
        if not host and not port:
            return
        if port and not (port.isdigit() and len(port) <= 5 and 0 < int(port) <= 65535):
            raise ProtocolError(400, "X-Forwarded-Port is not a port")
        if host and HOST.fullmatch(host) is None:
            raise ProtocolError(400, "the host that the proxy states is not a valid host")
        name, own_port = _split_host(host or head.host or b"")
        scheme = environ["wsgi.url_scheme"]
        shown = (port or own_port).decode("latin-1") or _DEFAULT_PORTS[scheme]
        environ["SERVER_PORT"] = shown
        if name:
            if host:
                environ["SERVER_NAME"] = name.decode("latin-1")
            _replace_host(head, name if shown == _DEFAULT_PORTS[scheme] else name + b":" + shown.encode("latin-1"))


def _stated(value: bytes, hop: _Hop) -> bytes:
    """The statement that counts of the list in one field line: that of the last trusted proxy if each proxy has stated
    it, else that of the peer itself."""
    if b"," not in value:
        return value
    found = members([value])
    if not found:
        return b""
    return found[hop.place if len(found) == hop.length else 0]


def _single(values: list[bytes] | None, hop: _Hop, name: str) -> bytes:
    """The statement of a field; b"" if there is none."""
    found = {stated for stated in (_stated(value, hop) for value in values or ()) if stated}
    if len(found) > 1:
        raise ProtocolError(400, f"the proxy has sent {name} twice, with different values")
    return found.pop() if found else b""


def _set_scheme(environ: Environ, secure: bool | None) -> None:
    if secure is None:
        return
    scheme, before = "https" if secure else "http", environ["wsgi.url_scheme"]
    if scheme != before:
        environ["wsgi.url_scheme"] = scheme
        # The port of the listener, or the made-up one of a UNIX socket, says nothing of the port for clients. But the
        # default port of the other scheme would appear in the URLs of a request without Host.
        if environ["SERVER_PORT"] == _DEFAULT_PORTS[before]:
            environ["SERVER_PORT"] = _DEFAULT_PORTS[scheme]


def _set_prefix(environ: Environ, values: list[bytes] | None) -> None:
    """Set SCRIPT_NAME to the path that the proxy has removed from the start of the request's path."""
    prefix = _single(values, _Hop(0, 0), "X-Forwarded-Prefix").rstrip(b"/")
    if prefix:
        if not prefix.startswith(b"/") or b"?" in prefix or b"#" in prefix:
            raise ProtocolError(400, "X-Forwarded-Prefix is not a path")
        environ["SCRIPT_NAME"] = unquote_to_bytes(prefix).decode("latin-1")


def _split_host(host: bytes) -> tuple[bytes, bytes]:
    """The name, with brackets if it has them, and the port; b"" if it has none."""
    name, _, port = host.rpartition(b":")
    return (name, port) if name and not host.endswith(b"]") else (host.removesuffix(b":"), b"")


def _replace_host(head: RequestHead, host: bytes) -> None:
    head.host = host
    head.fields = [*(field for field in head.fields if field[0].lower() != b"host"), (b"Host", host)]
