"""Writes results as JSON and Markdown, and puts Markdown into a page between markers."""

from __future__ import annotations

import json
import math
import os
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from bench.results import BenchError, Cell, Outcome, from_structure, ratio, to_structure
from bench.serving import Cores
from bench.targets import Target, Verdict, judge

MEGABYTE = 1e6


def machine(cores: Cores) -> dict[str, Any]:
    """What the figures depend on: a description of this machine."""
    return {
        "python": platform.python_version(),
        "implementation": platform.python_implementation(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cpus": os.cpu_count(),
        "server_core": cores.server,
        "client_core": cores.client,
        "congestion_control": congestion_control(),
    }


def congestion_control() -> str:
    """The congestion control of TCP; "" where the system does not tell. Linux's default is cubic."""
    try:
        return Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text("ascii").strip()
    except OSError:
        return ""


def document(about: dict[str, Any], outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """All results, as a structure for JSON. `about`: the machine and the options of the run."""
    return {
        "about": about,
        "scenarios": [to_structure(outcome) for outcome in outcomes],
        "targets": [verdict_structure(verdict) for verdict in judge(outcomes)],
    }


def read(path: Path) -> tuple[dict[str, Any], list[Outcome]]:
    """Read a file that was written from `document`. Raises BenchError if it is another file."""
    structure = load(path)
    try:
        return structure["about"], [from_structure(each) for each in structure["scenarios"]]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} is not a result of the bench: {error!r}") from error


def load(path: Path) -> Any:
    """Read a structure from a file of JSON. Raises BenchError."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise BenchError(f"{path}: {error}") from error


def write_json(path: Path, structure: dict[str, Any]) -> None:
    """Write a structure so that small changes make small diffs. JSON has no NaN, which becomes null."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_finite(structure), indent=1) + "\n", "utf-8")


def verdict_structure(verdict: Verdict) -> dict[str, Any]:
    """For JSON."""
    target = verdict.target
    return {
        "scenario": target.scenario,
        "target": target.text,
        "aim": target.aim,
        "at_most": target.at_most,
        "measured": verdict.measured,
        "compiled": verdict.compiled,
        "met": verdict.met,
        "by": verdict.by,
        "why": verdict.why,
    }


def markdown(about: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The targets, an overview of the ratios, and a table for each scenario."""
    parts = [sentence(about)]
    if verdicts := judge(outcomes):
        parts += ["### Targets", targets_table(verdicts)]
    if len(outcomes) > 1:
        parts += ["### Overview", OVERVIEW, overview(outcomes)]
    for outcome in outcomes:
        parts += [f"### {outcome.scenario}", f"{outcome.summary[0].upper()}{outcome.summary[1:]}.", table(outcome)]
    return "\n\n".join(parts)


OVERVIEW = "starman's rate by that of each server (its own is in requests/s): more than 1 means that starman is faster."


def sentence(about: dict[str, Any]) -> str:
    """How the figures were measured."""
    cores = "each pinned to a core of its own" if about.get("server_core") else "not pinned to cores"
    control = f", TCP by {about['congestion_control']}" if about.get("congestion_control") else ""
    return (
        f"{about['implementation']} {about['python']}, {about['system']} on {about['cpus']} CPUs ({about['architecture']})"
        f"{control}; medians of {about['rounds']} interleaved rounds of {about['seconds']:g} s, server and client {cores}."
    )


def targets_table(verdicts: Sequence[Verdict]) -> str:
    """A row for each target, with columns for compiled starman if it was measured."""
    rows = []
    has_compiled = any(verdict.compiled is not None for verdict in verdicts)
    for verdict in verdicts:
        target = verdict.target
        aim = f"at {'most' if target.at_most else 'least'} {target.aim:,g}{target.unit}"
        figures = [_figure(verdict.measured, target.unit), _judged(target, verdict.measured) or f"not measured: {verdict.why}"]
        if has_compiled:
            figures += [_figure(verdict.compiled, target.unit), _judged(target, verdict.compiled)]
        rows.append((target.scenario, target.text, aim, *figures))
    return grid(("scenario", "", "aim", "measured", "", *["compiled", ""] * has_compiled), rows)


def _judged(target: Target, measured: float | None) -> str:
    if measured is None:
        return ""
    by = target.by(measured)
    return "met" if by >= 0 else f"**missed by {-by:.{0 if by <= -0.01 else 1}%}**"


def _figure(measured: float | None, unit: str) -> str:
    if measured is None:
        return ""
    return f"{measured:,.0f}{unit}" if unit else f"{measured:.2f}"


def overview(outcomes: Sequence[Outcome]) -> str:
    """A table of scenarios by servers."""
    names = list(dict.fromkeys(cell.server for outcome in outcomes for cell in outcome.cells if len(_counts(outcome)) == 1))
    rows = []
    for outcome in outcomes:
        if len(_counts(outcome)) > 1:
            continue
        cells = {cell.server: cell for cell in outcome.cells}
        rows.append((outcome.scenario, *(_overview_cell(outcome, cells.get(name)) for name in names)))
    return grid(("scenario", *names), rows)


def table(outcome: Outcome) -> str:
    """A row for each server: medians of the rounds."""
    beside = any(turn.alone is not None for cell in outcome.cells for turn in cell.turns)
    heads = [
        "server",
        "requests/s",
        "lowest to highest",
        "times",
        "p50 ms",
        "p99 ms",
        "longest ms",
        "CPU µs",
        "memory MB",
        "errors",
    ]
    heads += ["kept", "bytes each"] if beside else []
    return grid(heads, [_row(outcome, cell, beside) for cell in outcome.cells])


def _row(outcome: Outcome, cell: Cell, beside: bool) -> list[str]:
    name = f"{outcome.label(cell)} {cell.version}"
    if cell.failure:
        return [name, f"no result: {cell.failure}", *[""] * (10 if beside else 8)]
    rates = [turn.result.rate for turn in cell.turns]
    times = ratio(outcome.reference(cell), cell)
    row = [
        name,
        number(cell.rate),
        f"{number(min(rates))} to {number(max(rates))}",
        "" if times is None else f"{times:.2f}",
        *(milliseconds(cell, percent) for percent in (50.0, 99.0, 100.0)),
        number(cell.median(lambda turn: turn.cpu_per_request)),
        f"{cell.median(lambda turn: turn.memory_bytes) / MEGABYTE:.1f}",
        str(cell.errors),
    ]
    if beside:
        row += [f"{cell.median(lambda turn: turn.kept):.2f}", number(cell.median(lambda turn: turn.beside_bytes or 0.0))]
    return row


def _overview_cell(outcome: Outcome, cell: Cell | None) -> str:
    if cell is None or cell.failure:
        return "" if cell is None else "no result"
    if cell is outcome.cells[0]:
        return number(cell.rate)
    times = ratio(outcome.cells[0], cell)
    return "" if times is None else f"{times:.2f}"


def _counts(outcome: Outcome) -> set[int]:
    return {cell.workers for cell in outcome.cells}


def number(value: float) -> str:
    """A number with thousands separators, or with three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def milliseconds(cell: Cell, percent: float) -> str:
    """A latency; "" if it is unknown."""
    latency = cell.latency(percent)
    return "" if math.isnan(latency) else f"{latency:.2f}"


def grid(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    ruled = ["---", *["---:"] * (len(heads) - 1)]
    escaped = ([cell.replace("|", "\\|") for cell in row] for row in rows)
    return "\n".join("| " + " | ".join(line) + " |" for line in (heads, ruled, *escaped))


def put(path: Path, name: str, text: str) -> None:
    """Write Markdown to a file, between `<!-- NAME -->` and `<!-- /NAME -->`. A new file gets it as a whole. Raises
    BenchError if the file exists without these markers."""
    first, last = f"<!-- {name} -->", f"<!-- /{name} -->"
    page = path.read_text("utf-8") if path.exists() else f"{first}\n{last}\n"
    before, found, rest = page.partition(first)
    _, ended, after = rest.partition(last)
    if not (found and ended):
        raise BenchError(f"{path} has no {first} with a {last} after it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{before}{first}\n{text}\n{last}{after}", "utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
