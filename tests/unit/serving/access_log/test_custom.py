"""starman.serving.access_log.custom: formats with atoms, as text and as JSON; gunicorn's own output is the measure in
tests/functional/test_access_log.py."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from starman.config.access_log_format import ATOMS
from starman.proto.response import ResponseHead
from starman.serving.access_log.custom import CustomFormat
from starman.serving.access_log.logged_request import LoggedRequest, refused
from tests.unit.serving.access_log.environs import ANY_ENVIRON, environ

TRACE = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
FULL = environ(
    HTTP_USER_AGENT="agent/1.0",
    HTTP_REFERER="http://r.test/",
    HTTP_X_REQUEST_ID="id-7",
    HTTP_TRACEPARENT=f"00-{TRACE[0]}-{TRACE[1]}-01",
    HTTP_AUTHORIZATION="Basic YWxpY2U6c2VjcmV0",
    CONTENT_TYPE="text/plain",
    **{"starman.worker_number": 3, "Mixed": 7},
)
ALL = [*ATOMS, "{user-agent}i", "{X-Request-ID}i", "{content-type}o", "{wsgi.url_scheme}e", "{none}i", "{none}o", "{none}e"]


def made(values: dict[str, Any], head: ResponseHead | None = None) -> LoggedRequest:
    request = LoggedRequest(values, 200, 5, head, (0.001, 1.0115), 17)
    request.thread = "starman-0"
    return request


def text(line_format: str, values: dict[str, Any] = FULL, head: ResponseHead | None = None) -> str:
    return CustomFormat(line_format).line(made(values, head)).decode().removesuffix("\n")


@pytest.mark.parametrize(
    ("atom", "value"),
    [
        ("h", "192.0.2.7"), ("l", "-"), ("u", "alice"), ("r", "GET /a?b HTTP/1.1"), ("s", "200"), ("m", "GET"), ("U", "/a"),
        ("q", "b"), ("H", "HTTP/1.1"), ("b", "5"), ("B", "5"), ("f", "http://r.test/"), ("a", "agent/1.0"),
        ("T", "1"), ("M", "1012"), ("D", "1012500"), ("L", "1.012500"),
        ("queue_time", "0.001000"),
        ("application_time", "1.011500"), ("bytes_received", "17"), ("worker", "3"), ("thread", "starman-0"),
        ("request_id", "id-7"), ("trace_id", TRACE[0]), ("span_id", TRACE[1]), ("{user-agent}i", "agent/1.0"),
        ("{Content-Type}i", "text/plain"), ("{remote_addr}e", "192.0.2.7"), ("{Mixed}e", "7"), ("{none}i", "-"),
        ("{none}o", "-"), ("{none}e", "-"), ("{wsgi.url_scheme}e", "http"),
    ],
)  # fmt: skip
def test_each_atom(atom: str, value: str) -> None:
    assert text(f"<%({atom})s>") == f"<{value}>"


def test_the_process() -> None:
    assert text("%(p)s") == f"<{os.getpid()}>"


def test_the_fields_of_the_response() -> None:
    head = ResponseHead("200 OK", [("X-A", "one"), ("x-a", "two"), ("Content-Length", "5"), ("Empty", "")])
    assert text("%({X-a}o)s %({content-length}o)s [%({empty}o)s] %({server}o)s", head=head) == "two 5 [] -"


def test_literal_text_and_conversions_as_in_printf() -> None:
    assert (
        text("100%% é\t%(s)5d|%(h)-12s|%(D)010d|%(L).2f|%(u)d|%(h).3s") == "100% é\t  200|192.0.2.7   |0001012500|1.01|alice|192"
    )


def test_values_cannot_forge_a_line_or_a_quoted_part() -> None:
    values = environ(HTTP_USER_AGENT='"\n\\\x1b\x7f\xe9\u202e', REQUEST_URI='/"')
    assert text('"%(a)s" "%(r)s"', values) == r'"\x22\x0a\x5c\x1b\x7f\xe9\u202e" "GET /\x22 HTTP/1.1"'


def test_a_refusal_has_no_request_line() -> None:
    line = CustomFormat('%(h)s "%(r)s" %(s)s %(m)s').line(refused("192.0.2.7", 400))
    assert line == b'192.0.2.7 "-" 400 -\n'


def test_a_format_that_begins_with_a_brace_is_json() -> None:
    line_format = (
        '{"a": "%(a)s", "b": %(b)s, "worker": %(worker)s, "user": %(u)s, "none": %({none}i)s, "missing": "%({none}i)s",'
        ' "time": %(L)s, "request": "<%(r)s>", "p": %(p)s, "\\"%%": "%(h)s"}'
    )
    assert json.loads(text(line_format, environ(HTTP_USER_AGENT='say "\xc3\xa9" \\ \n'))) == {
        "a": 'say "é" \\ \n',
        "b": 5,
        "worker": None,
        "user": None,
        "none": None,
        "missing": "-",
        "time": 1.0125,
        "request": "<GET /a?b HTTP/1.1>",
        "p": f"<{os.getpid()}>",
        '"%': "192.0.2.7",
    }


PLAIN = CustomFormat(" ".join(f'"%({atom})s" %({atom})r %({atom})5d' for atom in ALL))
JSON_STRINGS = CustomFormat("{" + ", ".join(f'"{number}": "%({atom})s"' for number, atom in enumerate(ALL)) + "}")
JSON_VALUES = CustomFormat("{" + ", ".join(f'"{number}": %({atom})s' for number, atom in enumerate(ALL)) + "}")
HEADS = st.sampled_from([None, ResponseHead("200 OK", [("Content-Type", 'text/"\xe9')])])


@settings(max_examples=200)
@given(ANY_ENVIRON, HEADS)
@example(environ(HTTP_USER_AGENT="inf", HTTP_REFERER="nan"), None)
def test_no_environ_makes_an_atom_fail(values: dict[str, Any], head: ResponseHead | None) -> None:
    request = made(values, head)
    line = PLAIN.line(request)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.translate(None, bytes(range(0x20, 0x7F))) == b"\n"
    for json_format in (JSON_STRINGS, JSON_VALUES):
        line = json_format.line(request)
        assert len(json.loads(line)) == len(ALL)
        assert line.count(b"\n") == 1
        assert line.isascii()


@settings(max_examples=200)
@given(st.lists(st.one_of(st.sampled_from([f"%({atom})s" for atom in ALL]), st.text(st.characters(codec="utf-8")))), ANY_ENVIRON)
def test_no_format_fails(parts: list[str], values: dict[str, Any]) -> None:
    line_format = "".join(part if part.startswith("%(") else part.replace("%", "%%").lstrip("{") for part in parts)
    line = CustomFormat(line_format).line(made(values))
    assert line.endswith(b"\n")
