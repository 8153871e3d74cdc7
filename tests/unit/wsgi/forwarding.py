"""The environ of a request whose fields are those of a proxy."""

from __future__ import annotations

import sys
from io import BytesIO
from typing import Any

from starman.config.settings import Settings
from starman.proto.events import Limits, RequestHead
from starman.proto.request import RequestParser
from starman.wsgi.environ import build, for_connection, template
from starman.wsgi.forwarded import Forwarding


def environ_of(
    settings: Settings,
    *fields: str,
    trusted: bool = True,
    secure: bool = False,
    target: str = "/",
    method: str = "GET",
    host: str = "internal:8000",
    port: int = 8000,
) -> dict[str, Any]:
    """The environ of a request from 127.0.0.1:4711, through the real parser. `fields`: lines without CRLF."""
    forwarding = Forwarding(settings)
    parser = RequestParser(Limits())
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", *fields, "", ""]
    parser.receive_data("\r\n".join(lines).encode("latin-1"))
    head = parser.next_event()
    assert isinstance(head, RequestHead)
    listener = template(
        server=("127.0.0.1", port), secure=secure, errors=sys.stderr, threads=True, processes=True, software="test"
    )
    base = connection = for_connection(listener, ("127.0.0.1", 4711), None)
    before = dict(connection)
    if head.noted is not None:
        base = forwarding.apply(connection, head, trusted)
        assert connection == before, "other requests of the connection are affected"
        assert (base is connection) == (head.noted is None)
    return build(base, head, BytesIO(), None)
