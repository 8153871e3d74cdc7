"""starman.proto.syntax: what each expression accepts, and that none takes more than linear time over any of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import AnyStr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.proto import syntax

EXPRESSIONS = {name: value for name, value in vars(syntax).items() if isinstance(value, re.Pattern)}


@given(st.ip_addresses(v=6))
def test_every_ipv6_address_is_a_host(address: IPv6Address) -> None:
    for text in (str(address), address.exploded):
        assert syntax.HOST.fullmatch(b"[%b]" % text.encode())


@given(st.text("0123456789abcdefABCDEFg:.", max_size=20))
def test_nothing_else_in_brackets_is(text: str) -> None:
    try:
        IPv6Address(text)
    except ValueError:
        valid = False
    else:
        valid = True
    assert bool(syntax.HOST.fullmatch(b"[%b]" % text.encode())) is valid


@pytest.mark.parametrize("port", [0, 1, 9, 10, 80, 9999, 10000, 59999, 60000, 64999, 65000, 65499, 65500, 65529, 65530, 65535])
def test_ports(port: int) -> None:
    assert syntax.HOST.fullmatch(b"a:%d" % port)
    assert syntax.HOST.fullmatch(b"a:000%d" % port)


@pytest.mark.parametrize("port", [65536, 65540, 65600, 66000, 70000, 99999, 100000, 6553500])
def test_ports_above_65535(port: int) -> None:
    assert not syntax.HOST.fullmatch(b"a:%d" % port)


@pytest.mark.parametrize(
    ("values", "members"),
    [
        ([], []),
        ([b""], [b""]),
        ([b"a"], [b"a"]),
        ([b" A ,\tb,, c\t"], [b"a", b"b", b"", b"c"]),
        ([b"a,b", b"c"], [b"a", b"b", b"c"]),
    ],
)
def test_tokens(values: list[bytes], members: list[bytes]) -> None:
    assert syntax.tokens(values) == members


def test_tokens_has_a_bound() -> None:
    assert syntax.tokens([b"," * 99]) == [b""] * 100
    assert syntax.tokens([b"a,b", *[b""] * 98]) == [b"a", b"b", *[b""] * 98]
    for values in ([b"," * 100], [b""] * 101, [b"a,b", *[b""] * 99], [b"," * 8000] * 7):
        assert syntax.tokens(values) is None


FINISHED = {
    "INCOMPLETE_REQUEST_LINE": [
        b"GET / HTTP/1.1\r",
        b"OPTIONS * HTTP/1.0\r",
        b"GET http://a:1/b?c HTTP/1.1\r",
        b"!#$%&'*+-.^_`|~ x HTTP/2.0\r",
    ],
    "INCOMPLETE_CHUNK_LINE": [b"0\r", b"FFFFFFFFFFFFFFFF\r", b'5 \t;\ta="b\\"\xff" ; c = d\r'],
    "INCOMPLETE_FIELD_LINE": [b"\r", b"A:\r", b"A: \tb\xff c\t\r"],
}


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in FINISHED.items() for line in lines])
def test_every_beginning_of_a_line_is_one_that_may_be_finished(name: str, line: bytes) -> None:
    for end in range(1, len(line) + 1):
        assert EXPRESSIONS[name].fullmatch(line[:end])


# Linear time. What each expression is pumped behind, so that the pump reaches every repetition in it.
BEGINNINGS: dict[str, list[str]] = {
    "FIELD_LINE": ["", "A", "A:", "A: b"],
    "INCOMPLETE_FIELD_LINE": ["", "A:"],
    "CONTENT_LENGTH": [""],
    "TRANSFER_CODING": ["", "a", "a;", "a;b", "a;b=", 'a;b="', 'a;b="c"'],
    "ORIGIN_REQUEST_LINE": ["", "GET /", "GET /?", "GET /%41", "GET / HTTP/1.1"],
    "ANY_REQUEST_LINE": ["", "GET ", "GET / HTTP/1.1"],
    "INCOMPLETE_REQUEST_LINE": ["", "GET ", "GET / H"],
    "HOST": ["", "a", "a:", "[", "[1:", "[::", "[1::", "[v1.", "[v", "%41"],
    "ABSOLUTE_TARGET": ["http://", "http://a", "http://a:", "http://[1:", "http://a/", "http://a/?", "http://%41/%41?%41"],
    "FORWARDED_PAIR": ["", "for", "for=", "for=a", 'for="', "for=a;", "for=a,"],
    "CHUNK_LINE": ["", "1", "1;", "1;a", "1;a=", '1;a="', '1;a="b"', "1 "],
    "PLAIN_CHUNK_LINE": ["", "1"],
    "INCOMPLETE_CHUNK_LINE": ["", "1", "1;"],
    "STATUS": ["", "200 "],
    "FIELD_NAME_TEXT": [""],
}
# fmt: off
PUMPS = [
    "a", "0", " ", "\t ", "/", "%41", "%", "%4", ":", "1:", "::", "a:", ";", ";a", ";a=b", ' ;\ta = "b"', "\\", '\\"', '"', "=",
    "?", "/?", ",", ".",
]
# fmt: on
ENDS = ["", "\0", '"', "]"]

# How many bytes are pumped: few in small steps, so that what is exponential shows before it takes for ever; then twice
# as many.
_SIZES = [*range(12, 25, 2), 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
# Below so many seconds a measurement says nothing. Above, twice the input may take three times as long; four is
# quadratic.
_FLOOR, _FACTOR = 0.004, 3.0


def adversarial(beginning: str, pump: str, end: str) -> Iterator[str]:
    """The same input in growing sizes."""
    for size in _SIZES:
        yield beginning + pump * -(-size // len(pump)) + end


def grows_too_fast(expression: re.Pattern[AnyStr], subjects: list[AnyStr]) -> bool:
    """Whether matching takes more than linear time. Stops at the first size that shows it."""
    allowed = _FLOOR
    for subject in subjects:
        taken = _seconds(expression, subject)
        if taken > allowed:
            # Perhaps the machine was busy: what is real shows again.
            taken = min(_seconds(expression, subject) for _ in range(3))
            if taken > allowed:
                return True
        allowed = max(_FLOOR, _FACTOR * taken)
    return False


def _seconds(expression: re.Pattern[AnyStr], subject: AnyStr) -> float:
    begin = time.process_time()
    expression.fullmatch(subject)
    expression.match(subject)
    return time.process_time() - begin


def test_every_expression_is_measured() -> None:
    assert set(BEGINNINGS) == set(EXPRESSIONS)


@pytest.mark.parametrize("name", BEGINNINGS)
def test_every_expression_is_linear(name: str) -> None:
    expression = EXPRESSIONS[name]
    for beginning in BEGINNINGS[name]:
        for pump in PUMPS:
            for end in ENDS:
                texts = list(adversarial(beginning, pump, end))
                subjects = texts if isinstance(expression.pattern, str) else [text.encode("latin-1") for text in texts]
                assert not grows_too_fast(expression, subjects), (beginning, pump, end)


@pytest.mark.parametrize(
    ("pattern", "beginning", "pump"),
    [
        (r"[a-z]+:[\t ]*([\t\x20-\x7e]*)", "a:", " "),  # two repetitions that may share the white space: quadratic
        (r"(?:[\t ]*;[\t ]*[a-z]*[\t ]*)*", ";", " "),
        (r"(?:[a-z]+|%[0-9]{2})+", "", "a"),  # exponential
    ],
)
def test_the_measure_finds_what_is_not_linear(pattern: str, beginning: str, pump: str) -> None:
    assert grows_too_fast(re.compile(pattern), list(adversarial(beginning, pump, "\0")))
