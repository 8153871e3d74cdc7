"""Measures how long a line of the access log takes to make, in each format: `python -m bench.log_lines`.

In one thread of this process, without a server: so other load on the machine, which disturbs `python -m bench
access-log`, hardly counts. A figure is the best of many short runs.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from typing import Any

from bench import report
from bench.servers import GUNICORN_FORMAT, OWN_JSON
from starman.serving.access_log.access_log import AccessLog
from starman.serving.access_log.line_filter import LineFilter
from starman.serving.access_log.logged_request import LoggedRequest

FORMATS = {
    **{name: name for name in ("combined", "common", "json", "ecs", "gcp")},
    "custom": GUNICORN_FORMAT,
    "custom JSON": OWN_JSON,
}
RUNS = 1_500
LINES = 200
# Of a browser behind a proxy.
ENVIRON: dict[str, Any] = {
    "REMOTE_ADDR": "192.0.2.7",
    "REQUEST_METHOD": "GET",
    "PATH_INFO": "/articles/7",
    "QUERY_STRING": "page=2",
    "REQUEST_URI": "/articles/7?page=2",
    "SERVER_NAME": "127.0.0.1",
    "SERVER_PROTOCOL": "HTTP/1.1",
    "HTTP_HOST": "shop.example",
    "HTTP_REFERER": "https://shop.example/articles",
    "HTTP_USER_AGENT": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "wsgi.url_scheme": "http",
    "starman.worker_number": 1,
}


def main() -> int:
    """Measure, and print a table in Markdown on standard output."""
    rows = [(name, f"{microseconds(_adder(line_format)):.1f}") for name, line_format in FORMATS.items()]
    skipping = AccessLog(os.devnull, "json", LineFilter(["/articles/*"]))
    rows.append(("json, skipped", f"{microseconds(lambda: skipping.add_request(_request())):.1f}"))
    print(report.grid(("format", "µs"), rows))
    return 0


def microseconds(function: Callable[[], None], runs: int = RUNS) -> float:
    """The time of one call, in the fastest of the runs."""
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        for _ in range(LINES):
            function()
        best = min(best, time.perf_counter() - start)
    return best / LINES * 1_000_000


def _adder(line_format: str) -> Callable[[], None]:
    """What an exchange calls to log itself."""
    access_log = AccessLog(os.devnull, line_format)
    if not access_log.needs_details:
        return lambda: access_log.add(ENVIRON, 200, 1000)
    return lambda: access_log.add_request(_request())


def _request() -> LoggedRequest:
    return LoggedRequest(ENVIRON, 200, 1000, None, (0.001, 0.002), 0)


if __name__ == "__main__":
    sys.exit(main())
