"""Feeds bytes in pieces to a RequestParser or a ChunkedDecoder, records what comes out, and checks on the way what
must hold at every step."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from starman.errors import ProtocolError
from starman.proto.chunked import ChunkedDecoder
from starman.proto.events import EndOfBody, Limits, RequestHead
from starman.proto.request import RequestParser, _Phase

NO_LIMITS = Limits()

# A second request, to stand behind a case: it must be read where the case ends, and never be taken for a part of it.
FOLLOWING = b"GET /following HTTP/1.1\r\nHost: following\r\n\r\n"

# Everything proto/ refuses a request with.
STATUSES = {400, 413, 414, 417, 431, 501, 505}


# Depends on which fields any test of the process has noted.
_LEFT_OUT = {"noted"}


def in_body(parser: RequestParser) -> bool:
    """Whether a head has been reported, and its body is not complete yet."""
    return parser._phase in (_Phase.BODY, _Phase.CHUNKED)


@dataclass
class Request:
    """One request as it came out of the parser. `head` has the attributes of RequestHead."""

    head: dict[str, Any]
    body: bytes = b""
    trailers: list[tuple[bytes, bytes]] = field(default_factory=list)
    complete: bool = False


@dataclass
class Outcome:
    """What became of some bytes: the requests in them, and the status they were refused with (None: they were not)."""

    requests: list[Request]
    status: int | None = None
    reason: str = ""

    @property
    def judged(self) -> tuple[list[Request], int | None]:
        """What must not depend on how the bytes were cut: the words of a refusal may, a part of a refused body as
        well."""
        return [request for request in self.requests if request.complete], self.status


def feed(pieces: Iterable[bytes], limits: Limits = NO_LIMITS) -> Outcome:
    """What becomes of `pieces`, received one after the other as a connection would receive them."""
    parser = RequestParser(limits)
    outcome = Outcome([])
    for piece in pieces:
        parser.receive_data(piece)
        try:
            _drain(parser, outcome.requests, most_events=10 + 2 * parser.unread_bytes)
        except ProtocolError as error:
            outcome.status, outcome.reason = error.status, str(error)
            _check_closed(parser)
            break
    return outcome


def _drain(parser: RequestParser, requests: list[Request], most_events: int) -> None:
    while (event := parser.next_event()) is not None:
        most_events -= 1
        assert most_events, "the parser goes round in circles"
        if isinstance(event, RequestHead):
            assert not requests or requests[-1].complete, "a head within a body"
            requests.append(
                Request({name: getattr(event, name) for name in dir(event) if name not in _LEFT_OUT and name[0] != "_"})
            )
            requests[-1].complete = event.body_length == 0
            assert in_body(parser) is not requests[-1].complete
        elif isinstance(event, EndOfBody):
            assert not requests[-1].complete, "a body ends twice"
            requests[-1].trailers = event.trailers
            requests[-1].complete = True
            assert requests[-1].head["body_length"] in (None, len(requests[-1].body))
            assert not in_body(parser)
        else:
            assert event, "an empty piece of a body"
            requests[-1].body += event
        if requests[-1].complete and not requests[-1].head["persistent"]:
            parser.close()
            _check_closed(parser)


def _check_closed(parser: RequestParser) -> None:
    parser.receive_data(FOLLOWING)
    assert parser.next_event() is None
    assert (parser.unread_bytes, parser.between_messages, in_body(parser)) == (0, True, False)


@dataclass
class Decoded:
    """What a ChunkedDecoder makes of some bytes. `rest` are the bytes that it has not used."""

    data: bytes
    trailers: list[tuple[bytes, bytes]]
    rest: bytes
    complete: bool


def decode_chunked(pieces: Iterable[bytes], limits: Limits = NO_LIMITS) -> Decoded:
    """What becomes of `pieces`, a chunked body and what follows it. Raises ProtocolError if the decoder refuses
    them."""
    decoder = ChunkedDecoder(limits)
    decoded = buffer = b""
    complete = False
    for piece in pieces:
        buffer += piece
        at, data = 0, b"more"
        while data and not complete:
            before = at
            data, at, complete = decoder.decode(buffer, at)
            assert before <= at <= len(buffer)
            assert at > before or not data, "data from nowhere"
            decoded += data
        buffer = buffer[at:]
    return Decoded(decoded, decoder.trailers if complete else [], buffer, complete)


def one_by_one(data: bytes) -> list[bytes]:
    """`data` byte by byte."""
    return [data[at : at + 1] for at in range(len(data))]


def every_cut(data: bytes) -> Iterator[list[bytes]]:
    """`data` in two, in every way."""
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def cut_at(data: bytes, positions: Iterable[int]) -> list[bytes]:
    """`data` cut at `positions`, in any order."""
    edges = sorted({0, len(data), *(at for at in positions if at < len(data))})
    return [data[begin:end] for begin, end in pairwise(edges)]


def refused_after(data: bytes, limits: Limits = NO_LIMITS) -> int | None:
    """After how many bytes, fed one by one, `data` is refused. None when it is not."""
    parser = RequestParser(limits)
    for count, byte in enumerate(one_by_one(data), 1):
        parser.receive_data(byte)
        try:
            while parser.next_event() is not None:
                pass
        except ProtocolError:
            return count
    return None
