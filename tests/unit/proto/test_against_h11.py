"""starman.proto.request beside h11 on generated heads: where the two disagree, the table below says why. An unexplained one fails.

h11 is asked for what it does as a server: take a request's head or refuse it, and where it begins and how its body is framed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import h11
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.unit.proto.cases import BROKEN, VALID
from tests.unit.proto.feeding import FOLLOWING, feed
from tests.unit.proto.strategies import messages


@dataclass
class Head:
    """What both say of a head they accept. Field names in lower case, as h11 has them; a body's length, None for a chunked one."""

    method: bytes
    target: bytes
    version: bytes
    fields: list[tuple[bytes, bytes]]
    body_length: int | None


@dataclass
class Refused:
    """A head that is not accepted, and the status it deserves."""

    status: int


def by_starman(data: bytes) -> Head | Refused | None:
    """What starman says of the head that `data` begins with; None: it is not complete."""
    outcome = feed([data])
    if outcome.requests:
        head = outcome.requests[0].head
        lowered = [(name.lower(), value) for name, value in head["fields"]]
        return Head(head["method"], head["target"], head["version"], lowered, head["body_length"])
    return None if outcome.status is None else Refused(outcome.status)


def by_h11(data: bytes) -> Head | Refused | None:
    """What h11 says of it."""
    server = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    server.receive_data(data)
    try:
        event = server.next_event()
    except h11.RemoteProtocolError as error:
        return Refused(error.error_status_hint)
    if not isinstance(event, h11.Request):
        return None
    fields = list(event.headers)
    body_length: int | None = 0
    for name, value in fields:
        if name == b"transfer-encoding":
            body_length = None
        elif name == b"content-length" and body_length is not None:
            body_length = int(value)
    return Head(event.method, event.target, b"HTTP/" + event.http_version, fields, body_length)


@dataclass
class Difference:
    """One reason for the two to disagree: in what data, what starman says then (a status, None: accepted), and why it does."""

    found_in: Callable[[bytes], object]
    status: int | None
    reason: str


def containing(pattern: bytes, flags: int = 0) -> Callable[[bytes], object]:
    return re.compile(pattern, flags).search


def at_the_beginning(pattern: bytes) -> Callable[[bytes], object]:
    return re.compile(pattern).match


def fields_of(data: bytes) -> list[tuple[bytes, bytes]]:
    """The field lines of a head, split as leniently as can be, names in lower case."""
    lines = re.split(rb"\r?\n", re.split(rb"\r?\n\r?\n", data.lstrip(b"\r\n"))[0])[1:]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)]


def values_of(data: bytes, wanted: bytes) -> list[bytes]:
    return [value for name, value in fields_of(data) if name == wanted]


# The other way round: h11 refuses (or waits), starman does not. And first the ways in which starman is stricter.
DIFFERENCES = {
    # starman refuses
    "LF without CR": Difference(
        containing(rb"(?<!\r)\n"), 400, "RFC 9112 §2.2 lets a recipient end lines at LF; two that do so differently are a smuggling pair"
    ),
    "obs-fold": Difference(containing(rb"\n[ \t]"), 400, "RFC 9112 §5.2: a server MUST reject it or replace it; h11 replaces"),
    "HTTP/1.x only": Difference(at_the_beginning(rb"(?:\r\n)*\S+ \S+ HTTP/(?!1)"), 505, "h11 reads the heads of any version"),
    "CONNECT": Difference(at_the_beginning(rb"(?:\r\n)*CONNECT "), 501, "h11 leaves methods to the application"),
    "target": Difference(
        lambda data: not re.match(rb"(?:\r\n)*\S+ (?:/[\w./?&=%-]*|https?://[a-z0-9.:]+/?|\*) ", data)
        or re.match(rb"(?:\r\n)*(?!OPTIONS )\S+ \* ", data)
        or re.search(rb"%(?![0-9A-Fa-f]{2})", data.split(b"\n", 1)[0]),
        400,
        "RFC 9112 §3.2: one of four forms, RFC 3986: of certain characters; h11 takes any visible ones",
    ),
    "Host": Difference(
        lambda data: any(not re.fullmatch(rb"[a-z0-9.-]+(?::[0-9]{1,4})?", value) for value in values_of(data, b"host")),
        400,
        "RFC 9112 §3.2: an invalid Host value is 400; h11 counts them and does not look",
    ),
    "two hosts in 1.0": Difference(
        lambda data: len(values_of(data, b"host")) > 1, 400, "RFC 9112 §3.2: more than one Host is 400 in any request"
    ),
    "Content-Length and Transfer-Encoding": Difference(
        lambda data: values_of(data, b"content-length") and values_of(data, b"transfer-encoding"),
        400,
        "RFC 9112 §6.1: may be processed by Transfer-Encoding alone, and ought to be handled as an error",
    ),
    "several Content-Lengths": Difference(
        lambda data: len(values_of(data, b"content-length")) > 1 or any(b"," in value for value in values_of(data, b"content-length")),
        400,
        "RFC 9112 §6.3: equal ones may be one or an error; h11 makes them one",
    ),
    "Content-Length of 2^63 and more": Difference(
        lambda data: any(len(value.lstrip(b"0")) > 18 for value in values_of(data, b"content-length")), 400, "h11 takes 20 digits"
    ),
    "Transfer-Encoding in 1.0": Difference(
        lambda data: b" HTTP/1.0" in data and values_of(data, b"transfer-encoding"), 400, "RFC 9112 §6.1: faulty framing"
    ),
    "Transfer-Encoding that does not end in chunked": Difference(
        lambda data: not b",".join(values_of(data, b"transfer-encoding")).lower().endswith(b"chunked"),
        400,
        "RFC 9112 §6.3: 400; h11 answers 501 to anything but chunked",
    ),
    "a malformed Transfer-Encoding": Difference(
        lambda data: b",".join(values_of(data, b"transfer-encoding")).lower().count(b"chunked") > 1
        or re.search(rb'^,|,\s*,|[^!-~ ,\t]|[;"]', b",".join(values_of(data, b"transfer-encoding"))),
        400,
        "RFC 9112 §6.1: chunked once, no empty members; h11 answers 501 to anything but chunked",
    ),
    "expectations": Difference(
        lambda data: any(value.lower() != b"100-continue" for value in values_of(data, b"expect")),
        417,
        "RFC 9110 §10.1.1: 417 for what cannot be met; h11 leaves it to the application",
    ),
    "controls in values": Difference(
        containing(rb"[\x00-\x08\x0e-\x1f\x7f]"), 400, "RFC 9110 §5.5: invalid; h11 keeps all but NUL and white space"
    ),
    # starman accepts
    "empty lines before": Difference(
        at_the_beginning(rb"(?:\r\n){1,4}[^\r\n]"), None, "RFC 9112 §2.2: SHOULD ignore at least one; h11 ignores none"
    ),
    "Content-Length with leading zeros": Difference(
        lambda data: any(len(value) > 20 for value in values_of(data, b"content-length")), None, "1*DIGIT; h11 takes 20 digits"
    ),
    "Transfer-Encoding, then white space": Difference(
        containing(rb"chunked[ \t]+\r\n", re.IGNORECASE), None, "RFC 9112 §5: OWS is no part of the value"
    ),
}


def explanations(data: bytes, starman: Head | Refused | None) -> list[str]:
    """The rows that explain this judgement of starman's, where h11's is another."""
    status = starman.status if isinstance(starman, Refused) else None
    return [name for name, row in DIFFERENCES.items() if row.status == status and row.found_in(data)]


def check(data: bytes) -> None:
    starman, other = by_starman(data), by_h11(data)
    if isinstance(starman, Refused) and isinstance(other, Refused) and (starman.status == 400 or other.status == 400):
        return  # h11 has one status for most that is wrong, and looks in another order
    if starman != other:
        assert explanations(data, starman), (data, starman, other)


# Heads of pieces that matter, most of them broken, put together as a request is.

METHODS = st.sampled_from([b"GET"] * 8 + [b"POST", b"OPTIONS", b"CONNECT", b"get", b"G(T", b"", b"\x16\x03", b" GET"])
TARGETS = st.sampled_from(
    [b"/"] * 8 + [b"/a?b=c", b"*", b"http://a/", b"http://a", b"a:80", b"/%", b"/%zz", b"/\x80", b'/"', b"/#", b"/a b", b"", b"//", b"ftp://a/"]
)
VERSIONS = st.sampled_from([b"HTTP/1.1"] * 8 + [b"HTTP/1.0"] * 3 + [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/0.9", b"http/1.1", b"HTTP/1.10", b"HTTP/1", b"ICE/1.0", b""])
SPACES = st.sampled_from([b" "] * 12 + [b"  ", b"\t", b""])
BREAKS = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n", b"\r\n "])
FIELDS = st.sampled_from(
    [
        *(b"Host: a", b"host:b:80", b"Host: a", b"Host: a, b", b"Host:", b"Host: u@a", b"Host: a b"),
        *(b"Content-Length: 5", b"Content-Length: 5, 5", b"Content-Length: +5", b"Content-Length:", b"Content-Length: 0", b"content-length: 5"),
        *(b"Content-Length: 9223372036854775808", b"Content-Length: 000000000000000000000005", b"Content-Length: 5\t"),
        *(b"Transfer-Encoding: chunked", b"Transfer-Encoding: CHUNKED", b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: identity"),
        *(b"Transfer-Encoding: chunked\t", b"Transfer-Encoding: , chunked", b"Transfer-Encoding:", b"Transfer-Encoding: xchunked"),
        *(b"Connection: close", b"Connection: upgrade", b"Upgrade: h2c", b"Expect: 100-continue", b"Expect: x", b"Cookie: a=b; c=\xff"),
        *(b"A: b", b"A:\t b \t", b"A:", b"a_b: c", b"A : b", b"A B: c", b": b", b"A", b"A: \0", b"A: \x01", b"A: \x7f", b"A\x80: b", b"A: \x0b"),
    ]
)


@st.composite
def heads(draw: st.DrawFn) -> bytes:
    """A head that is wrong in a place or two, or not at all."""
    before = draw(st.sampled_from([b""] * 12 + [b"\r\n", b"\r\n\r\n", b"\n", b" "]))
    line = before + draw(METHODS) + draw(SPACES) + draw(TARGETS) + draw(SPACES) + draw(VERSIONS) + draw(BREAKS)
    fields = draw(st.permutations([*draw(st.lists(FIELDS, max_size=3)), *draw(st.sampled_from([[b"Host: a"]] * 4 + [[]]))]))
    return line + b"".join(field + draw(BREAKS) for field in fields) + draw(BREAKS)


SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@settings(SETTINGS, max_examples=600)
@given(heads())
def test_generated_heads(data: bytes) -> None:
    check(data)


@SETTINGS
@given(messages())
def test_valid_messages(message) -> None:  # type: ignore[no-untyped-def]
    check(message.data)


@pytest.mark.parametrize("case", VALID.values(), ids=VALID)
def test_valid_cases(case) -> None:  # type: ignore[no-untyped-def]
    check(case.data)


@pytest.mark.parametrize("data", [data for data, _ in BROKEN.values()], ids=BROKEN)
def test_broken_cases(data: bytes) -> None:
    check(data)


# For each row of the table a head that only it explains, and h11's judgement of it, so that no row outlives its reason.
WITNESSES = {
    "LF without CR": b"GET / HTTP/1.1\nHost: a\n\n",
}


def test_every_row_has_a_witness() -> None:
    assert set(WITNESSES) == set(DIFFERENCES)


@pytest.mark.parametrize("name", WITNESSES)
def test_every_difference_is_one(name: str) -> None:
    data = WITNESSES[name]
    starman = by_starman(data)
    assert starman != by_h11(data)
    assert name in explanations(data, starman)
