"""The application of the torture test: a faultless part of `faulty`. Its responses name the process that made them."""

from __future__ import annotations

import os
import random
import time
from typing import Any

from tests.functional.support.faulty import Body, Environ, StartResponse, echo, marked, stream, whole


def slow(environ: Environ, start_response: StartResponse, body: bytes) -> Body:
    """Wait before the response, as for a database."""
    time.sleep(random.uniform(0.1, 0.6))
    return whole(environ, start_response, body)


FUNCTIONS = {"whole": whole, "slow": slow, "stream": stream, "echo": echo}


def app(environ: Environ, start_response: StartResponse) -> Body:
    """The path is /KIND/TAG/SIZE, as in `faulty`."""

    def begin(status: str, fields: list[tuple[str, str]], *more: Any) -> Any:
        return start_response(status, [*fields, ("X-Worker", str(os.getpid()))], *more)

    _, kind, tag, size = environ["PATH_INFO"].split("/")
    return FUNCTIONS[kind](environ, begin, marked(tag, int(size)))
