"""Runs wrk, the load generator: its command, and how to read what load.lua prints."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

from bench.results import BenchError, Result
from bench.scenarios import Load

SCRIPT = Path(__file__).with_name("load.lua")


def find() -> str | None:
    """The path of wrk; None if it is not installed."""
    return shutil.which("wrk")


def can(load: Load) -> bool:
    """Whether wrk can make the load. It has no kinds of requests or connections and no instants, and drops what has
    not ended in time."""
    return not (load.slow_percent or load.newcomers or load.per_second or load.whole)


def command(url: str, load: Load, seconds: float) -> list[str]:
    """The argv, with one thread. wrk takes whole seconds: a fraction is rounded up to one."""
    options = ["-t", "1", "-c", str(load.connections), "-d", f"{math.ceil(seconds)}s", "-s", str(SCRIPT)]
    if not load.keep_alive:
        options += ["-H", "Connection: close"]
    for number in range(load.fields):
        options += ["-H", f"{field_name(number)}: {FIELD_VALUE}"]
    return [find() or "wrk", *options, url, "--", str(load.pipelined), str(load.upload_bytes)]


FIELD_VALUE = "a value of ordinary length"


def field_name(number: int) -> str:
    """The name of one of the additional header fields."""
    return f"X-Bench-{number:03}"


def parse(text: str) -> Result:
    """Read the last line that load.lua printed. Raises BenchError if it is missing, or has no latency.

    Latencies are in milliseconds, corrected by wrk for requests that it could not send in time because others took
    longer. For pipelined requests, there is only the longest latency, because each waits for the last one.
    """
    line = text.strip().rpartition("\n")[2]
    try:
        found = json.loads(line)
        latencies = {float(percent): value / 1000 for percent, value in found["microseconds"].items()}
        good = found["requests"] - found["refused"]
        errors = found["failed"] + found["refused"]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"not what wrk prints with load.lua: {line[:200]!r}") from error
    if good and not latencies[100.0]:
        raise BenchError(f"{good} responses came, but never all of those to pipelined requests")
    return Result(good, found["seconds"], errors, latencies)
