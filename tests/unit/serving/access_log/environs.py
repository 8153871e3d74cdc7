"""Environs as a server makes them and as an application may leave them, for the tests of the access log."""

from __future__ import annotations

import base64
from typing import Any

from hypothesis import strategies as st


def environ(**more: Any) -> dict[str, Any]:
    return {
        "REMOTE_ADDR": "192.0.2.7",
        "REQUEST_METHOD": "GET",
        "REQUEST_URI": "/a?b",
        "PATH_INFO": "/a",
        "QUERY_STRING": "b",
        "SERVER_NAME": "localhost",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.url_scheme": "http",
        **more,
    }


SPECIAL = '"\\\n\r\t\0 -\x1b\x7f\x80\xa0\xff\u0100\u2028\ud800'
TEXTS = st.one_of(
    st.sampled_from(["", "-", " ", "GET", "/a?b=c", "HTTP/1.1", "192.0.2.7", "::1", '"', '" "', "\\", "\n"]),
    st.text(st.one_of(st.characters(min_codepoint=32, max_codepoint=126), st.sampled_from(SPECIAL)), max_size=20),
    st.text(max_size=5),
)
VALUES = st.one_of(TEXTS, TEXTS, TEXTS, st.none(), st.integers(), st.binary(max_size=5), st.floats(), st.lists(TEXTS, max_size=2))
CREDENTIALS = st.one_of(
    VALUES, st.builds(lambda name: "Basic " + base64.b64encode(name.encode("utf-8", "replace")).decode(), TEXTS)
)
FIELDS = (
    *("HTTP_HOST", "HTTP_TRACEPARENT", "HTTP_X_REQUEST_ID", "PATH_INFO", "QUERY_STRING", "starman.worker_number"),
    "wsgi.url_scheme",
    "REMOTE_ADDR",
    "REQUEST_METHOD",
    "REQUEST_URI",
    "SERVER_PROTOCOL",
    "HTTP_REFERER",
    "HTTP_USER_AGENT",
)
ENVIRONS = st.fixed_dictionaries({}, optional={**dict.fromkeys(FIELDS, VALUES), "HTTP_AUTHORIZATION": CREDENTIALS})

# Complete environs, and some where keys are missing.
ANY_ENVIRON = st.one_of(ENVIRONS, ENVIRONS.map(lambda some: environ(**some)))
