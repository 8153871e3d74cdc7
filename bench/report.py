"""Shows what was measured: a table for people, a structure for JSON."""

from __future__ import annotations

import os
import platform
from typing import Any

from bench.runner import Cores, Measured
from bench.scenarios import Scenario


def machine(cores: Cores) -> dict[str, Any]:
    """What the figures depend on, and who reads them must know."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "server_core": cores.server,
        "client_core": cores.client,
    }


def table(scenario: Scenario, measured: list[Measured]) -> str:
    """Medians of the rounds, a line for each server; latencies in milliseconds."""
    heads = ("server", "req/s", "lowest", "highest", "p50 ms", "p99 ms", "errors", "times")
    rows = [heads]
    for server in measured:
        rates = [result.rate for result in server.rounds]
        rows.append(
            (
                f"{server.name} {server.version}",
                f"{server.median(lambda result: result.rate):,.0f}",
                f"{min(rates):,.0f}",
                f"{max(rates):,.0f}",
                f"{server.median(lambda result: result.p50):.2f}",
                f"{server.median(lambda result: result.p99):.2f}",
                str(server.errors),
                f"{server.ratio:.1f}",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = [f"{scenario.name}: {scenario.summary}"]
    for row in rows:
        name, *numbers = row
        lines.append(
            "  ".join([name.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(numbers, widths[1:], strict=True))])
        )
    lines.append(f"times: the rate of {measured[0].name} by that of the server, median of the rounds' ratios")
    return "\n".join(lines)


def structure(scenario: Scenario, measured: list[Measured]) -> dict[str, Any]:
    """The same for JSON, with every round."""
    return {
        "scenario": scenario.name,
        "summary": scenario.summary,
        "servers": [
            {
                "name": server.name,
                "version": server.version,
                "rate": server.median(lambda result: result.rate),
                "p50_ms": server.median(lambda result: result.p50),
                "p99_ms": server.median(lambda result: result.p99),
                "errors": server.errors,
                "times": server.ratio,
                "rounds": [
                    {"rate": result.rate, "p50_ms": result.p50, "p99_ms": result.p99, "errors": result.errors}
                    for result in server.rounds
                ],
            }
            for server in measured
        ],
    }
