"""starman.commands.trace: the line of a request, whatever its client has sent."""

from __future__ import annotations

from typing import Any

from starman.commands.trace import request_line

REQUEST: dict[str, Any] = {
    "time": 1796123407.588,
    "client": "192.0.2.7",
    "method": "GET",
    "target": "/a?b",
    "status": 200,
    "seconds": 0.30061,
    "queue_seconds": 0.0001,
    "body_bytes": 12,
    "worker": 3,
}


def test_columns() -> None:
    line = request_line(REQUEST)
    assert line[8:12] == ".588"
    assert line[12:] == "       3     200     0.3006     0.0001          12  192.0.2.7        GET /a?b"


def test_a_refused_message() -> None:
    line = request_line({**REQUEST, "method": None, "target": None, "status": 400})
    assert line.endswith("     400     0.3006     0.0001          12  192.0.2.7        (refused before it was a request)")


def test_no_client_reaches_the_terminal() -> None:
    line = request_line({**REQUEST, "target": "/\x1b[2J\n\x9b\ud800é", "client": "\x07"})
    assert line.endswith("\\x07             GET /\\x1b[2J\\n\\x9b\\ud800é")
    assert line.isprintable()
