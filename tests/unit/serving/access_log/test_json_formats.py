"""starman.serving.access_log.json_formats: each line is one JSON object, whatever the environ holds."""

from __future__ import annotations

import base64
import json
import os
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from starman.serving.access_log.json_formats import (
    EcsFormat,
    GcpFormat,
    OpenTelemetryFormat,
    host_and_port,
    path_and_query,
)
from starman.serving.access_log.line_format import LineFormat
from starman.serving.access_log.logged_request import LoggedRequest, refused
from tests.unit.serving.access_log.environs import ANY_ENVIRON, environ

FORMATS = {"json": OpenTelemetryFormat, "ecs": EcsFormat, "gcp": GcpFormat}
TRACE = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331")
FULL = {
    "HTTP_HOST": "example.test:8443",
    "HTTP_USER_AGENT": 'agent "1" \\ \x7f',
    "HTTP_REFERER": "http://r.test/",
    "HTTP_X_REQUEST_ID": "id-7",
    "HTTP_TRACEPARENT": f"00-{TRACE[0]}-{TRACE[1]}-01",
    "HTTP_AUTHORIZATION": "Basic " + base64.b64encode("zoë:secret".encode()).decode(),
    "starman.worker_number": 3,
}


def made(values: dict[str, Any], status: int = 200) -> LoggedRequest:
    request = LoggedRequest(values, status, 5, None, (0.001, 0.0115), 17)
    request.unix_time = 1_795_366_326.25
    request.thread = "starman-0"
    return request


def parsed(line_format: LineFormat, request: LoggedRequest) -> dict[str, Any]:
    line = line_format.line(request)
    assert line.isascii()
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert b"\x7f" not in line
    pairs = json.loads(line, object_pairs_hook=list)
    assert len({key for key, _ in pairs}) == len(pairs), "a key stands twice"
    result: dict[str, Any] = json.loads(line)
    return result


def test_json_has_the_keys_of_opentelemetry() -> None:
    assert parsed(OpenTelemetryFormat(), made(environ(**FULL))) == {
        "timestamp": "2026-11-22T16:52:06.250000Z",
        "client.address": "192.0.2.7",
        "http.request.method": "GET",
        "url.scheme": "http",
        "url.path": "/a",
        "url.query": "b",
        "http.response.status_code": 200,
        "http.response.body.size": 5,
        "http.request.body.size": 17,
        "duration": 0.0125,
        "network.protocol.version": "1.1",
        "server.address": "example.test",
        "server.port": 8443,
        "user_agent.original": 'agent "1" \\ \x7f',
        "http.request.header.referer": ["http://r.test/"],
        "user.name": "zoë",
        "trace_id": TRACE[0],
        "span_id": TRACE[1],
        "starman.queue_time": 0.001,
        "starman.application_time": 0.0115,
        "starman.worker": 3,
        "starman.request_id": "id-7",
        "thread.name": "starman-0",
        "process.pid": os.getpid(),
    }


def test_ecs_has_the_fields_of_the_elastic_common_schema() -> None:
    assert parsed(EcsFormat(), made(environ(**FULL), 503)) == {
        "@timestamp": "2026-11-22T16:52:06.250000Z",
        "log.level": "error",
        "message": "GET /a?b HTTP/1.1 503",
        "ecs.version": "8.11.0",
        "event.kind": "event",
        "event.category": ["web"],
        "event.type": ["access"],
        "event.outcome": "failure",
        "event.duration": 12_500_000,
        "source.address": "192.0.2.7",
        "source.ip": "192.0.2.7",
        "http.request.method": "GET",
        "http.request.id": "id-7",
        "http.request.referrer": "http://r.test/",
        "http.request.body.bytes": 17,
        "http.response.status_code": 503,
        "http.response.body.bytes": 5,
        "http.version": "1.1",
        "url.original": "/a?b",
        "url.path": "/a",
        "url.query": "b",
        "url.scheme": "http",
        "url.domain": "example.test",
        "url.port": 8443,
        "user_agent.original": 'agent "1" \\ \x7f',
        "user.name": "zoë",
        "trace.id": TRACE[0],
        "span.id": TRACE[1],
        "starman.queue_time": 0.001,
        "starman.application_time": 0.0115,
        "starman.worker": 3,
        "process.thread.name": "starman-0",
        "process.pid": os.getpid(),
    }


def test_gcp_has_the_members_of_a_log_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_CLOUD_PROJECT", "shop")
    assert parsed(GcpFormat(), made(environ(**FULL), 404)) == {
        "time": "2026-11-22T16:52:06.250000Z",
        "severity": "WARNING",
        "message": "GET /a?b HTTP/1.1 404",
        "httpRequest": {
            "status": 404,
            "remoteIp": "192.0.2.7",
            "requestMethod": "GET",
            "requestUrl": "http://example.test:8443/a?b",
            "requestSize": "17",
            "responseSize": "5",
            "latency": "0.012500s",
            "protocol": "HTTP/1.1",
            "userAgent": 'agent "1" \\ \x7f',
            "referer": "http://r.test/",
        },
        "user": "zoë",
        "logging.googleapis.com/trace": f"projects/shop/traces/{TRACE[0]}",
        "logging.googleapis.com/spanId": TRACE[1],
        "starman.queue_time": 0.001,
        "starman.application_time": 0.0115,
        "starman.worker": 3,
        "starman.request_id": "id-7",
        "thread.name": "starman-0",
        "pid": os.getpid(),
    }


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_missing_is_left_out(name: str) -> None:
    line = parsed(FORMATS[name](), made(environ()))
    assert None not in line.values()
    assert not [key for key in line if "trace" in key or "agent" in key or "refer" in key or "user" in key or "worker" in key]
    assert "/a" in json.dumps(line)


@pytest.mark.parametrize("name", FORMATS)
def test_a_refusal_has_its_client_and_its_status(name: str) -> None:
    line = json.dumps(parsed(FORMATS[name](), refused("192.0.2.7", 431)))
    assert "192.0.2.7" in line
    assert "431" in line
    assert "GET" not in line


def test_bytes_are_shown_as_the_text_that_they_are() -> None:
    values = environ(REQUEST_URI="/\xc3\xa9?\xff", HTTP_USER_AGENT="\xe2\x80\xae", HTTP_REFERER="\u20ac")
    line = parsed(OpenTelemetryFormat(), made(values))
    assert (line["url.path"], line["url.query"], line["user_agent.original"]) == ("/é", r"\xff", "\u202e")
    assert line["http.request.header.referer"] == ["€"]


def test_a_method_that_is_not_standard_makes_no_new_value() -> None:
    line = parsed(OpenTelemetryFormat(), made(environ(REQUEST_METHOD="PURGE")))
    assert (line["http.request.method"], line["http.request.method_original"]) == ("_OTHER", "PURGE")


def test_ecs_has_no_ip_that_is_none() -> None:
    line = parsed(EcsFormat(), made(environ(REMOTE_ADDR="1.2.3.4, 5.6.7.8")))
    assert line["source.address"] == "1.2.3.4, 5.6.7.8"
    assert "source.ip" not in line
    assert parsed(EcsFormat(), made(environ(REMOTE_ADDR="2001:db8::7")))["source.ip"] == "2001:db8::7"


class Hostile:
    def __eq__(self, other: object) -> bool:
        raise RuntimeError

    __hash__ = object.__hash__

    def __str__(self) -> str:
        raise SystemExit


@settings(max_examples=300)
@given(ANY_ENVIRON, st.sampled_from([0, 200, 404, 500]))
@example({}, 200)
@example(environ(REQUEST_METHOD=Hostile(), HTTP_HOST=Hostile(), **{"wsgi.url_scheme": None}), 200)
@example(environ(**{"starman.worker_number": "7, x"}), 200)
@example(environ(HTTP_HOST="a:99999999", HTTP_TRACEPARENT=f"00-{'0' * 32}-{TRACE[1]}-01"), 0)
def test_every_line_is_an_object(values: dict[str, Any], status: int) -> None:
    for make in FORMATS.values():
        line = json.dumps(parsed(make(), made(values, status)))
        assert str(status or 499) in line


@settings(max_examples=200)
@given(st.binary(), st.binary(), st.binary())
def test_any_bytes_of_a_request_make_an_object(target: bytes, agent: bytes, traceparent: bytes) -> None:
    values = environ(
        REQUEST_URI="/" + target.decode("latin-1"),
        HTTP_USER_AGENT=agent.decode("latin-1"),
        HTTP_HOST=agent.decode("latin-1"),
        HTTP_TRACEPARENT=traceparent.decode("latin-1"),
    )
    for make in FORMATS.values():
        parsed(make(), made(values))


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/", ("/", None)),
        ("/a?", ("/a", "")),
        ("/a?b?c", ("/a", "b?c")),
        ("//x/y", ("//x/y", None)),
        ("http://h/a?b", ("/a", "b")),
        ("http://h", ("/", None)),
        ("http://h?b", ("/", "b")),
        ("*", ("*", None)),
        ("", ("", None)),
    ],
)
def test_the_path_and_the_query_of_a_target(target: str, parts: tuple[str, str | None]) -> None:
    assert path_and_query(target) == parts


@pytest.mark.parametrize(
    ("field", "parts"),
    [
        ("a", ("a", None)),
        ("a:80", ("a", 80)),
        ("[::1]:80", ("[::1]", 80)),
        ("[::1]", ("[::1]", None)),
        ("a:", ("a:", None)),
        ("a:²", ("a:²", None)),
        ("a:123456", ("a:123456", None)),
    ],
)
def test_the_name_and_the_port_of_a_host(field: str, parts: tuple[str, int | None]) -> None:
    assert host_and_port(field) == parts
