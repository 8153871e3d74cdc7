"""A raw HTTP/1.1 client for tests: it sends the given bytes, and reads responses strictly by RFC 9112.

It uses nothing of starman, so a framing error of the server raises an exception here and is never guessed away. It
never retries and never reconnects. Only one thread at a time may use a `Client`.
"""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import TracebackType

Address = tuple[str, int] | str
Fields = Sequence[tuple[str, str]]

_STATUS_LINE = re.compile(rb"(HTTP/1\.[01]) ([1-5][0-9][0-9]) ([^\r\n]*)")
_FIELD = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+):[ \t]*(.*?)[ \t]*")
_CHUNK_SIZE = re.compile(rb"[0-9A-Fa-f]{1,16}")
_RECEIVE_BYTES = 256 * 1024


class WireError(Exception):
    """The server has sent bytes that are not a response by RFC 9112."""


class NoResponseError(WireError):
    """The connection ended, or was reset, before the first byte of a response."""


class TruncatedError(WireError):
    """The connection ended, or was reset, in the middle of a response."""


@dataclass(frozen=True, slots=True)
class Response:
    """One final response. `body` is decoded; `interim` holds the status codes of the 1xx responses before it."""

    version: str
    status: int
    reason: str
    fields: tuple[tuple[str, str], ...]
    body: bytes = b""
    framing: str = "none"
    interim: tuple[int, ...] = ()

    def get(self, name: str) -> str | None:
        """The value of the only field of this name; None if there is none. Two of them fail the test."""
        values = self.get_all(name)
        assert len(values) <= 1, f"{name} was sent {len(values)} times: {values}"
        return values[0] if values else None

    def get_all(self, name: str) -> list[str]:
        """The values of all fields of this name, in order."""
        return [value for known, value in self.fields if known.lower() == name.lower()]

    @property
    def persistent(self) -> bool:
        """Whether another request may follow on this connection (RFC 9112 §9.3)."""
        tokens = {token.strip().lower() for value in self.get_all("Connection") for token in value.split(",")}
        return self.framing != "close" and "close" not in tokens


class Client:
    """One connection to the server. `timeout` is seconds for each blocking call, so that a test cannot hang.
    `source`: the client's own address (127.0.0.0/8); "": the system chooses.

    idle_seconds: how long the connection was idle before the last request was on its way.
    """

    _idle_since = math.inf
    idle_seconds = 0.0

    def __init__(self, address: Address, timeout: float = 20.0, source: str = "") -> None:
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.socket.settimeout(timeout)
            try:
                self.socket.connect(address)
            except OSError:
                self.socket.close()
                raise
        else:
            self.socket = socket.create_connection(address, timeout, (source, 0) if source else None)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray()
        self._within_response = False
        self._idle_since = time.monotonic()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        try:
            self.socket.sendall(data)
        finally:
            self.idle_seconds = time.monotonic() - self._idle_since

    def get(self, target: str, *fields: tuple[str, str]) -> Response:
        """Send a GET and read its response."""
        return self.request("GET", target, fields)

    def request(self, method: str, target: str, fields: Fields = (), body: bytes | None = None) -> Response:
        """Send one request, with Host and the body's Content-Length, and read its response."""
        self.send(encode_request(method, target, fields, body))
        return self.read(method)

    def read(self, method: str = "GET") -> Response:
        """Read one final response to a request of `method`, with the interim ones before it."""
        interim: list[int] = []
        self._within_response = False
        while True:
            head = self.read_head()
            if head.status >= 200 or head.status == 101:
                break
            interim.append(head.status)
        framing, body = self._read_body(method, head)
        self._within_response = False
        self._idle_since = time.monotonic()
        return Response(head.version, head.status, head.reason, head.fields, body, framing, tuple(interim))

    def read_many(self, methods: Iterable[str]) -> list[Response]:
        """Read the responses of pipelined requests, in order."""
        return [self.read(method) for method in methods]

    def read_head(self) -> Response:
        """Read a status line and its fields only, interim responses included."""
        lines = bytes(self._read_until(b"\r\n\r\n")).split(b"\r\n")
        status_line = _STATUS_LINE.fullmatch(lines[0])
        if status_line is None:
            raise WireError(f"not a status line: {lines[0]!r}")
        fields = []
        for line in lines[1:]:
            field = _FIELD.fullmatch(line)
            if field is None or b"\n" in line or b"\r" in line or b"\0" in line:
                raise WireError(f"not a field line: {line!r}")
            fields.append((field[1].decode("ascii"), field[2].decode("latin-1")))
        self._within_response = True
        return Response(status_line[1].decode(), int(status_line[2]), status_line[3].decode("latin-1"), tuple(fields))

    def read_to_end(self) -> bytes:
        """Read all that the server still sends, up to its FIN. A reset raises ConnectionResetError."""
        while self._receive():
            pass
        data = bytes(self._buffer)
        self._buffer.clear()
        return data

    def at_end(self) -> bool:
        """Wait for the next event on the connection: True for its end (FIN or RST), False for a byte."""
        try:
            return not self._buffer and not self._receive()
        except ConnectionResetError:
            return True

    def _read_body(self, method: str, head: Response) -> tuple[str, bytes]:
        """RFC 9112 §6.3, in its order."""
        codings = head.get("Transfer-Encoding")
        length = head.get("Content-Length")
        if codings is not None and length is not None:
            raise WireError("both Transfer-Encoding and Content-Length")
        if method == "HEAD" or head.status in (101, 204, 304):
            return "none", b""
        if codings is not None:
            if codings.lower() != "chunked":
                raise WireError(f"Transfer-Encoding: {codings}")
            return "chunked", self._read_chunks()
        if length is not None:
            if not length.isascii() or not length.isdigit():
                raise WireError(f"Content-Length: {length}")
            return "length", self._read_exactly(int(length))
        return "close", self.read_to_end()

    def _read_chunks(self) -> bytes:
        body = bytearray()
        while True:
            size_line = bytes(self._read_until(b"\r\n"))
            if _CHUNK_SIZE.fullmatch(size_line) is None:
                raise WireError(f"not a chunk size: {size_line!r}")
            size = int(size_line, 16)
            if size == 0:
                break
            body += self._read_exactly(size)
            if self._read_exactly(2) != b"\r\n":
                raise WireError("a chunk is longer than it said")
        if self._read_until(b"\r\n") != b"":
            raise WireError("trailers, which nobody asked for")
        return bytes(body)

    def _read_exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive_more()
        data = bytes(memoryview(self._buffer)[:size])
        del self._buffer[:size]
        return data

    def _read_until(self, end: bytes) -> bytearray:
        while (found := self._buffer.find(end)) < 0:
            self._receive_more()
        data = self._buffer[:found]
        del self._buffer[: found + len(end)]
        return data

    def _receive_more(self) -> None:
        try:
            if self._receive():
                return
            how = "ended"
        except ConnectionResetError:
            how = "was reset"
        if self._buffer or self._within_response:
            raise TruncatedError(f"the connection {how} after {bytes(self._buffer[:200])!r}")
        raise NoResponseError(f"the connection {how}")

    def _receive(self) -> bool:
        data = self.socket.recv(_RECEIVE_BYTES)
        self._buffer += data
        return bool(data)


def encode_request(method: str, target: str, fields: Fields = (), body: bytes | None = None) -> bytes:
    """A request of HTTP/1.1 as bytes. `body` None sends no Content-Length; b"" sends `Content-Length: 0`."""
    lines = [f"{method} {target} HTTP/1.1", "Host: localhost"]
    lines += [f"{name}: {value}" for name, value in fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + (body or b"")


def encode_chunks(blocks: Iterable[bytes]) -> bytes:
    """`blocks` in the chunked coding, with its end. Empty blocks are left out: they would end the body."""
    return b"".join(b"%x\r\n%b\r\n" % (len(block), block) for block in blocks if block) + b"0\r\n\r\n"


def refuses(port: int) -> bool:
    """Whether no socket listens there."""
    try:
        socket.create_connection(("127.0.0.1", port), 5).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # the listener was closed while the connection waited to be accepted
        return False
    return False
