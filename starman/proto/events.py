"""What the other files of proto/ hand to each other: a request's head, its end, and the limits it was read under."""

from __future__ import annotations

from typing import Final

# In bytes, where no limit is set. Others on the way may count in 64 bits with a sign, and must not see less than we do.
LONGEST_BODY: Final = (1 << 63) - 1


class Limits:
    """How much of one request is accepted, counted in bytes as received. Immutable by convention, shared by all connections."""

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
        """`line_bytes` the request line without its CRLF (414 beyond); `fields` how many field lines, `field_bytes` one of
        them without its CRLF, `head_bytes` all of the head (431); `body_bytes` the decoded body, 0 means no limit (413);
        `extra_bytes` chunk extensions and trailers of one body together (400 and 431); trailers are as many as `fields` at most.
        """
        self.line_bytes = line_bytes
        self.fields = fields
        self.field_bytes = field_bytes
        self.head_bytes = head_bytes
        self.body_bytes = body_bytes
        self.extra_bytes = extra_bytes
        # A head of no more bytes cannot pass a limit on sizes.
        self.unmeasured_bytes = min(field_bytes, head_bytes)


class RequestHead:
    """The head of one request, checked: everything in it may be relied on.

    method, target, version  as received (`b"GET"`, `b"/a?b"`, `b"HTTP/1.1"`); the target's form is one of RFC 9112 §3.2
    path, query              of the target, still percent-encoded; the path of `*` is empty. Any printable ASCII but space and `#`
    minor                    0 for HTTP/1.0, 1 for everything above, which is served as HTTP/1.1
    fields                   (name, value) in order as received, white space around values removed
    host                     of the absolute-form target, else of Host; b"" when that is empty, None when a 1.0 client sent none
    body_length              bytes; 0 when there is no body, None when it is chunked
    persistent               whether the client wants the connection kept (RFC 9112 §9.3)
    expects_continue         whether it waits for 100 Continue before it sends the body (RFC 9110 §10.1.1)
    upgrade                  whether it offers to switch protocols (RFC 9110 §7.8)
    """

    __slots__ = (
        "body_length",
        "expects_continue",
        "fields",
        "host",
        "method",
        "minor",
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
    fields: list[tuple[bytes, bytes]]
    host: bytes | None
    body_length: int | None
    persistent: bool
    expects_continue: bool
    upgrade: bool


class EndOfBody:
    """The body that a head announced is complete. `trailers` are its trailer fields, in order; most have none."""

    __slots__ = ("trailers",)

    def __init__(self, trailers: list[tuple[bytes, bytes]]) -> None:
        self.trailers = trailers
