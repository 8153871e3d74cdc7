"""The page for an application that cannot be loaded: escaped, not stored, and for local clients only."""

from __future__ import annotations

from typing import Any

import pytest

from starman.wsgi.failure_page import is_local, make_failure_page

LOCAL = {"REMOTE_ADDR": "127.0.0.1", "HTTP_HOST": "127.0.0.1:5000"}


def answer(environ: dict[str, Any], message: str, details: str) -> tuple[str, dict[str, str], str]:
    """Status, fields and body of the page."""
    seen: list[Any] = []

    def start_response(*arguments: Any) -> Any:
        seen.extend(arguments)

    body = b"".join(make_failure_page(message, details)(environ, start_response))
    status, fields = seen
    assert dict(fields)["Content-Length"] == str(len(body))
    return status, dict(fields), body.decode()


def test_a_local_client_sees_the_traceback_escaped() -> None:
    status, fields, body = answer(LOCAL, "no <b>", "<script>alert('&')</script>")
    assert status == "500 Internal Server Error"
    assert fields["Content-Type"] == "text/html; charset=utf-8"
    assert fields["Cache-Control"] == "no-store"
    assert "default-src 'none'" in fields["Content-Security-Policy"]
    assert "no &lt;b&gt;" in body
    assert "&lt;script&gt;alert(&#x27;&amp;&#x27;)&lt;/script&gt;" in body
    assert "<script" not in body


def test_another_client_sees_neither_message_nor_traceback() -> None:
    status, fields, body = answer({**LOCAL, "REMOTE_ADDR": "192.0.2.1"}, "secret", "secret")
    assert status == "500 Internal Server Error"
    assert fields["Cache-Control"] == "no-store"
    assert body == "Internal Server Error\n"


def test_a_text_that_is_no_unicode_is_shown() -> None:
    assert "\\udcff" in answer(LOCAL, "a \udcff", "")[2]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"REMOTE_ADDR": "127.8.9.1"},
        {"REMOTE_ADDR": "::1", "HTTP_HOST": "[::1]:5000"},
        {"REMOTE_ADDR": "::ffff:127.0.0.1"},
        {"HTTP_HOST": "localhost:5000"},
        {"HTTP_HOST": "shop.localhost"},
        {"HTTP_HOST": "shop.test:80"},
        {"HTTP_HOST": "web"},
        {"HTTP_HOST": ""},
        {"HTTP_HOST": "192.168.1.2:5000"},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_X_FORWARDED_FOR": "::1, 127.0.0.1:4711"},
        {"HTTP_FORWARDED": 'for=127.0.0.1;proto=http, for="[::1]:80"'},
        {"REMOTE_ADDR": "", "HTTP_X_REAL_IP": "127.0.0.1"},
        {"HTTP_VIA": "1.1 proxy", "HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_X_FORWARDED_HOST": "localhost:5173", "HTTP_X_FORWARDED_FOR": "127.0.0.1"},
    ],
)
def test_local(fields: dict[str, str]) -> None:
    assert is_local({**LOCAL, **fields})


@pytest.mark.parametrize(
    "fields",
    [
        {"REMOTE_ADDR": "192.168.1.2"},
        {"REMOTE_ADDR": "::ffff:192.168.1.2"},
        {"REMOTE_ADDR": "127.0.0.1.example.com"},
        {"REMOTE_ADDR": ""},
        {"HTTP_HOST": "rebound.example.com:5000"},
        {"HTTP_X_FORWARDED_FOR": "198.51.100.7"},
        {"HTTP_X_FORWARDED_FOR": "198.51.100.7, 127.0.0.1"},
        {"HTTP_X_FORWARDED_FOR": ""},
        {"HTTP_X_FORWARDED_FOR": "127.0.0.1", "HTTP_X_REAL_IP": "198.51.100.7"},
        {"HTTP_FORWARDED": "for=198.51.100.7"},
        {"HTTP_FORWARDED": "for=unknown"},
        {"HTTP_FORWARDED": "proto=https"},
        {"HTTP_FORWARDED": "for=127.0.0.1, for=_hidden"},
        {"HTTP_VIA": "1.1 proxy"},
        {"HTTP_X_FORWARDED_PROTO": "https"},
        {"HTTP_X_FORWARDED_HOST": "localhost"},
        {"HTTP_X_FORWARDED_HOST": "tunnel.example.com", "HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_X_FORWARDED_HOST": "localhost, tunnel.example.com", "HTTP_X_FORWARDED_FOR": "127.0.0.1"},
        {"HTTP_X_ORIGINAL_HOST": "tunnel.example.com"},
        {"HTTP_FLY_CLIENT_IP": "198.51.100.7"},
        {"HTTP_X_CLUSTER_CLIENT_IP": "198.51.100.7"},
        {"HTTP_X_ORIGINAL_FORWARDED_FOR": "198.51.100.7"},
    ],
)
def test_not_local(fields: dict[str, str]) -> None:
    assert not is_local({**LOCAL, **fields})
