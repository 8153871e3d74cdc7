"""starman.proto.request beside h11 on generated heads: where the two disagree, the table below has to say why.

h11 is asked for what it does as a server: take a request's head or refuse it, and where it begins and how its body is
framed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address

import h11
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.unit.proto.cases import BROKEN, VALID, Valid, get, post, with_host
from tests.unit.proto.feeding import feed
from tests.unit.proto.strategies import Message, messages


@dataclass
class Head:
    """What both say of a head they accept. Field names are in lower case, as h11 has them; a chunked body has no
    length."""

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
    """One reason for the two to disagree: in what data, what starman says then (a status, None: accepted), and why it
    does."""

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


def target_of(data: bytes) -> tuple[bytes, bytes]:
    """Method and target of a request line."""
    method, target, *_ = [*data.lstrip(b"\r\n").split(b"\n", 1)[0].split(b" "), b"", b""]
    return method, target


def is_host(value: bytes) -> bool:
    """uri-host [ ":" port ] of RFC 3986, not empty; IPvFuture does not occur here."""
    host, port = re.fullmatch(rb"(.*?)(?::([0-9]*))?", value, re.DOTALL).groups(b"")  # type: ignore[union-attr]
    if int(port or b"0") > 65535:
        return False
    if host.startswith(b"[") and host.endswith(b"]") and b"%" not in host:
        try:
            return bool(IPv6Address(host[1:-1].decode("latin-1")))
        except ValueError:
            return False
    return bool(re.fullmatch(rb"(?:[A-Za-z0-9._~!$&'()*+,;=-]|%[0-9A-Fa-f]{2})+", host))


def is_target(method: bytes, target: bytes) -> bool:
    """RFC 9112 §3.2, and in paths and queries all printable ASCII but "#", as real clients send it."""
    if target == b"*":
        return method == b"OPTIONS"
    if not target.startswith(b"/"):
        scheme, _, rest = target.partition(b"://")
        authority = re.split(rb"[/?]", rest, maxsplit=1)[0]
        if scheme.lower() not in (b"http", b"https") or not is_host(authority):
            return False
        target = rest[len(authority) :]
    return not set(target) & {*range(0x21), ord("#"), *range(0x7F, 0x100)}


def codings_of(data: bytes) -> list[bytes]:
    """The members of Transfer-Encoding, in lower case."""
    return [coding.strip(b" \t").lower() for value in values_of(data, b"transfer-encoding") for coding in value.split(b",")]


# Ways in which starman is stricter, and at the end those in which h11 is.
DIFFERENCES = {
    "LF without CR": Difference(
        containing(rb"(?<!\r)\n"), 400, "RFC 9112 §2.2: a recipient MAY take LF for a line's end; MAY is what smuggling lives on"
    ),
    "CR without LF": Difference(
        containing(rb"\r(?!\n)"), 400, "RFC 9112 §2.2: invalid; h11 replaces it, waits behind it, or refuses what it is in"
    ),
    "obs-fold": Difference(containing(rb"\n[ \t]"), 400, "RFC 9112 §5.2: a server MUST refuse it or replace it; h11 replaces"),
    "HTTP/1.x only": Difference(at_the_beginning(rb"(?:\r\n)*\S+ \S+ HTTP/(?!1)"), 505, "h11 reads the heads of any version"),
    "CONNECT": Difference(at_the_beginning(rb"(?:\r\n)*CONNECT "), 501, "h11 leaves methods to the application"),
    "target": Difference(
        lambda data: not is_target(*target_of(data)), 400, "RFC 9112 §3.2: one of four forms; h11 takes any visible bytes"
    ),
    "Host": Difference(
        lambda data: not all(not value or is_host(value) for value in values_of(data, b"host")),
        400,
        "RFC 9112 §3.2: an invalid Host is 400; h11 counts them and does not look",
    ),
    "no Host in 1.2": Difference(
        lambda data: re.match(rb"(?:\r\n)*\S+ \S+ HTTP/1\.[2-9]", data) and not values_of(data, b"host"),
        400,
        "RFC 9112 §3.2, and RFC 9110 §2.5 for the version; h11 wants it of 1.1 alone",
    ),
    "Content-Length and Transfer-Encoding": Difference(
        lambda data: values_of(data, b"content-length") and values_of(data, b"transfer-encoding"),
        400,
        "RFC 9112 §6.1: Transfer-Encoding overrules, or it is an error; h11 drops Content-Length",
    ),
    "several Content-Lengths": Difference(
        lambda data: b"," in b",".join(values_of(data, b"content-length")),
        400,
        "RFC 9112 §6.3: equal ones may be one, or an error; h11 makes them one",
    ),
    "Content-Length of 2^63 and more": Difference(
        lambda data: any(value.isdigit() and int(value) >= 2**63 for value in values_of(data, b"content-length")),
        400,
        "RFC 9110 §8.6: anticipate overflow; h11 counts on Python's integers, but those behind it may not be",
    ),
    "Transfer-Encoding in 1.0": Difference(
        lambda data: b" HTTP/1.0" in data and codings_of(data), 400, "RFC 9112 §6.1: to be treated as if the framing is faulty"
    ),
    "Transfer-Encoding without chunked at the end, once": Difference(
        lambda data: codings_of(data) and (codings_of(data)[-1] != b"chunked" or codings_of(data).count(b"chunked") > 1),
        400,
        "RFC 9112 §6.3: the length is not known, 400; h11 answers 501 to all but chunked",
    ),
    "a malformed Transfer-Encoding": Difference(
        lambda data: any(not re.match(rb"[!#$%&'*+.^_`|~0-9a-z-]+[ \t]*(?:;|$)", coding) for coding in codings_of(data)),
        400,
        "RFC 9112 §7: members are tokens; h11 answers 501 to all but chunked",
    ),
    "expectations": Difference(
        lambda data: any(value.lower() not in (b"100-continue", b"") for value in values_of(data, b"expect")),
        417,
        "RFC 9110 §10.1.1: 417 for what cannot be met; h11 leaves it to the application",
    ),
    "options without end": Difference(
        lambda data: b",".join(values_of(data, b"connection")).count(b",") >= 100,
        400,
        "RFC 9110 §5.6.1.2: no more than a reasonable number of members; h11 reads them all",
    ),
    "controls in values": Difference(
        containing(rb"[\x01-\x08\x0e-\x1f\x7f]"), 400, "RFC 9110 §5.5: invalid; h11 refuses only NUL and white space"
    ),
    "empty lines before": Difference(
        at_the_beginning(rb"(?:\r\n){1,4}[^\r\n]"), None, "RFC 9112 §2.2: a server SHOULD ignore at least one; h11 ignores none"
    ),
    "Content-Length with many zeros": Difference(
        lambda data: any(len(value) > 20 for value in values_of(data, b"content-length")), None, "1*DIGIT; h11 takes 20 digits"
    ),
    "Transfer-Encoding in capitals": Difference(
        lambda data: codings_of(data) != values_of(data, b"transfer-encoding"), None, "h11 reports chunked in lower case"
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

# fmt: off (one value to a line would make these tables very long)
METHODS = st.sampled_from([b"GET"] * 8 + [b"POST", b"OPTIONS", b"CONNECT", b"get", b"G(T", b"", b"\x16\x03", b" GET"])
TARGETS = st.sampled_from(
    [b"/"] * 8
    + [
        b"/a?b=c",
        b"*",
        b"http://a/",
        b"http://a",
        b"a:80",
        b"/%",
        b"/%zz",
        b"/\x80",
        b'/"',
        b"/#",
        b"/a b",
        b"",
        b"//",
        b"ftp://a/",
    ]
)
VERSIONS = st.sampled_from(
    [b"HTTP/1.1"] * 8
    + [b"HTTP/1.0"] * 3
    + [
        b"HTTP/1.2",
        b"HTTP/2.0",
        b"HTTP/0.9",
        b"http/1.1",
        b"HTTP/1.10",
        b"HTTP/1",
        b"ICE/1.0",
        b"",
    ]
)
SPACES = st.sampled_from([b" "] * 12 + [b"  ", b"\t", b""])
BREAKS = st.sampled_from([b"\r\n"] * 20 + [b"\n", b"\r", b"\r\r\n", b"\r\n "])
FIELDS = st.sampled_from(
    [
        b"Host: a",
        b"host:b:80",
        b"Host: a",
        b"Host: a, b",
        b"Host:",
        b"Host: u@a",
        b"Host: a b",
        b"Content-Length: 5",
        b"Content-Length: 5, 5",
        b"Content-Length: +5",
        b"Content-Length:",
        b"Content-Length: 0",
        b"content-length: 5",
        b"Content-Length: 9223372036854775808",
        b"Content-Length: 000000000000000000000005",
        b"Content-Length: 5\t",
        b"Transfer-Encoding: chunked",
        b"Transfer-Encoding: CHUNKED",
        b"Transfer-Encoding: gzip, chunked",
        b"Transfer-Encoding: identity",
        b"Transfer-Encoding: chunked\t",
        b"Transfer-Encoding: , chunked",
        b"Transfer-Encoding:",
        b"Transfer-Encoding: xchunked",
        b"Connection: close",
        b"Connection: upgrade",
        b"Upgrade: h2c",
        b"Expect: 100-continue",
        b"Expect: x",
        b"Cookie: a=b; c=\xff",
        b"A: b",
        b"A:\t b \t",
        b"A:",
        b"a_b: c",
        b"A : b",
        b"A B: c",
        b": b",
        b"A",
        b"A: \0",
        b"A: \x01",
        b"A: \x7f",
        b"A\x80: b",
        b"A: \x0b",
    ]
)
# fmt: on


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
def test_valid_messages(message: Message) -> None:
    check(message.data)


@pytest.mark.parametrize("case", VALID.values(), ids=VALID)
def test_valid_cases(case: Valid) -> None:
    check(case.data)


@pytest.mark.parametrize("data", [data for data, _ in BROKEN.values()], ids=BROKEN)
def test_broken_cases(data: bytes) -> None:
    check(data)


# For each row of the table a head that only it explains, and h11's judgement of it, so that no row outlives its
# reason.
WITNESSES = {
    "LF without CR": b"GET / HTTP/1.1\nHost: a\n\n",
    "obs-fold": get(b"GET / HTTP/1.1", b"A: b\r\n c"),
    "HTTP/1.x only": get(b"GET / HTTP/2.0"),
    "CONNECT": get(b"CONNECT /a HTTP/1.1"),
    "target": get(b"GET a HTTP/1.1"),
    "Host": with_host(b"u@a"),
    "CR without LF": b"GET / HTTP/1.1\r\nHost: a\r\n\r\r\n",
    "no Host in 1.2": b"GET / HTTP/1.2\r\n\r\n",
    "Content-Length and Transfer-Encoding": post(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
    "several Content-Lengths": post(b"Content-Length: 5", b"Content-Length: 5"),
    "Content-Length of 2^63 and more": post(b"Content-Length: 9223372036854775808"),
    "Transfer-Encoding in 1.0": post(b"Transfer-Encoding: chunked", version=b"1.0"),
    "Transfer-Encoding without chunked at the end, once": post(b"Transfer-Encoding: gzip"),
    "a malformed Transfer-Encoding": post(b"Transfer-Encoding: , chunked"),
    "expectations": post(b"Expect: x"),
    "options without end": get(b"GET / HTTP/1.1", b"Connection: " + b"," * 100),
    "controls in values": get(b"GET / HTTP/1.1", b"A: \x01"),
    "empty lines before": b"\r\n" + get(b"GET / HTTP/1.1"),
    "Content-Length with many zeros": post(b"Content-Length: 000000000000000000005"),
    "Transfer-Encoding in capitals": post(b"Transfer-Encoding: CHUNKED"),
}


def test_every_row_has_a_witness() -> None:
    assert set(WITNESSES) == set(DIFFERENCES)


@pytest.mark.parametrize("name", WITNESSES)
def test_every_difference_is_one(name: str) -> None:
    data = WITNESSES[name]
    starman = by_starman(data)
    assert starman != by_h11(data)
    assert explanations(data, starman) == [name]
