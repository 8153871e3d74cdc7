"""Runs wrk once and reads what it prints."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

_UNITS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0, "h": 3_600_000.0}


@dataclass(frozen=True, slots=True)
class Result:
    """One run: requests per second, latencies in milliseconds, and how many requests failed or were not 2xx or 3xx."""

    rate: float
    p50: float
    p99: float
    errors: int


class WrkError(Exception):
    """wrk is missing, failed, or printed what this module does not know."""


def find() -> str:
    """The path of wrk. Raises WrkError if it is not installed."""
    path = shutil.which("wrk")
    if path is None:
        raise WrkError("wrk is not installed; Debian and Homebrew have it as the package `wrk`")
    return path


def run(command: Sequence[str], url: str, connections: int, seconds: int, keep_alive: bool) -> Result:
    """Ask `url` for `seconds`, with one thread. `command` is wrk with what must stand before it (taskset)."""
    options = ["-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"]
    if not keep_alive:
        options += ["-H", "Connection: close"]
    done = subprocess.run([*command, *options, url], capture_output=True, text=True, timeout=seconds + 30, check=False)
    if done.returncode != 0:
        raise WrkError(f"wrk failed: {done.stderr or done.stdout}")
    return parse(done.stdout)


def parse(text: str) -> Result:
    """Read wrk's output. Raises WrkError if the rate or a latency is not in it."""
    rate = re.search(r"^Requests/sec:\s+([\d.]+)", text, re.MULTILINE)
    if rate is None:
        raise WrkError(f"not the output of wrk: {text}")
    errors = sum(int(count) for count in re.findall(r"(?:connect|read|write|timeout) (\d+)", text))
    if found := re.search(r"Non-2xx or 3xx responses: (\d+)", text):
        errors += int(found[1])
    return Result(float(rate[1]), _latency(text, 50), _latency(text, 99), errors)


def _latency(text: str, percent: int) -> float:
    found = re.search(rf"^\s+{percent}%\s+([\d.]+)(us|ms|s|m|h)", text, re.MULTILINE)
    if found is None:
        raise WrkError(f"no latency of {percent}% in: {text}")
    return float(found[1]) * _UNITS[found[2]]
