"""A client of the admin HTTP: pages, and the values of metrics."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from collections.abc import Mapping

from tests.functional.support.harness import Server

_SAMPLE = re.compile(r"([a-z_:]+)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))

REQUESTS = "http_server_request_duration_seconds_count"


def admin_url(server: Server) -> str:
    """The URL of the admin HTTP, from the log."""
    return server.wait_for(r"the admin page, health checks and metrics are on (http://\S+)")[1]


def get(url: str, path: str, method: str = "GET", fields: Mapping[str, str] | None = None) -> tuple[int, dict[str, str], str]:
    """The status code, the fields and the body of a page."""
    request = urllib.request.Request(url + path, method=method, headers=dict(fields or {}))
    try:
        with _OPENER.open(request, timeout=20) as response:
            return response.status, dict(response.headers), response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, dict(error.headers), error.read().decode()


def samples(text: str) -> list[tuple[str, dict[str, str], float]]:
    """The samples of /metrics."""
    found = []
    for line in text.splitlines():
        match = _SAMPLE.fullmatch(line)
        if match is not None:
            found.append((match[1], dict(_LABEL.findall(match[2] or "")), float(match[3])))
    return found


def total(url: str, name: str, **labels: str) -> float:
    """The sum of the samples of a metric with these labels."""
    _, _, text = get(url, "/metrics")
    return sum(value for found, given, value in samples(text) if found == name and given.items() >= labels.items())
