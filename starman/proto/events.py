"""The events of the request parser (a head, the end of a body), and the limits that it enforces."""

from __future__ import annotations

from typing import Final

# The limit of a body (bytes) where none is set. Proxies may count in signed 64-bit integers: with a larger length,
# they could see another end of the body than this server does.
LONGEST_BODY: Final = (1 << 63) - 1


class Limits:
    """The limits of one request, in bytes as received. Must not be changed: all connections share the object."""

    __slots__ = ("body_bytes", "extra_bytes", "field_bytes", "fields", "head_bytes", "line_bytes", "unmeasured_bytes")

    def __init__(
        self,
        line_bytes: int = 8190,
        fields: int = 100,
        field_bytes: int = 8190,
        head_bytes: int = 65536,
        body_bytes: int = 0,
        extra_bytes: int = 16384,
    ) -> None:
        """Each with the status that is sent beyond it:

        line_bytes: the request line without its CRLF (414).
        fields: the number of field lines, and of trailer fields (431).
        field_bytes: one field line without its CRLF (431). head_bytes: the whole head (431).
        body_bytes: the decoded body (413); 0: no limit.
        extra_bytes: chunk extensions (400) and trailer fields (431) of one body together.
        """
        self.line_bytes = line_bytes
        self.fields = fields
        self.field_bytes = field_bytes
        self.head_bytes = head_bytes
        self.body_bytes = body_bytes
        self.extra_bytes = extra_bytes
        # A head of at most this size cannot exceed field_bytes or head_bytes, so the parser does not measure it.
        self.unmeasured_bytes = min(field_bytes, head_bytes)


class RequestHead:
    """The head of one request, validated.

    method, target, version  as received (`b"GET"`, `b"/a?b"`, `b"HTTP/1.1"`); the target has a form of RFC 9112 §3.2
    path, query              of the target, percent-encoded: printable ASCII but space and `#`; b"" for the target `*`
    minor                    0 for HTTP/1.0; 1 for HTTP/1.1 and later, which is served as HTTP/1.1
    fields                   (name, value) in order as received, white space around values removed
    host                     from an absolute-form target, else from Host; None if an HTTP/1.0 request has no Host
    body_length              bytes; 0 when there is no body, None when it is chunked
    persistent               whether the client keeps the connection open after the response (RFC 9112 §9.3)
    expects_continue         whether the client may wait for 100 Continue before it sends the body (RFC 9110 §10.1.1)
    upgrade                  whether the client offers to switch protocols (RFC 9110 §7.8)
    noted                    values by name in lower case of the fields that `heads.note_fields` names; None if there
                             are none, or if no trusted proxy has sent them
    """

    __slots__ = (
        "body_length",
        "expects_continue",
        "fields",
        "host",
        "method",
        "minor",
        "noted",
        "path",
        "persistent",
        "query",
        "target",
        "upgrade",
        "version",
    )

    method: bytes
    target: bytes
    path: bytes
    query: bytes
    version: bytes
    minor: int
    noted: dict[bytes, list[bytes]] | None
    fields: list[tuple[bytes, bytes]]
    host: bytes | None
    body_length: int | None
    persistent: bool
    expects_continue: bool
    upgrade: bool


class EndOfBody:
    """The end of a request body. `trailers`: its trailer fields (RFC 9112 §7.1.2), in order; usually none."""

    __slots__ = ("trailers",)

    def __init__(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.trailers = trailers
