"""wrk, the load generator: its command, and what load.lua has it print."""

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
    """Whether wrk is able to do it: it knows no kinds of requests or connections, no instants, and leaves what has not ended with
    the time."""
    return not (load.slow_percent or load.newcomers or load.per_second or load.whole)


def command(url: str, load: Load, seconds: float) -> list[str]:
    """The argv, with one thread. wrk knows whole seconds only: a part of one becomes one."""
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
    """Read what load.lua printed last. Raises BenchError if it is not there, or has no latency: those of pipelined
    requests wait for the last of them.

    Latencies are in milliseconds, corrected by wrk for requests that it could not send in time because others took longer;
    of pipelined requests there is the longest only.
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
