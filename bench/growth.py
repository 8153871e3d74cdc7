"""Measures how cost grows with one quantity, point by point: `python -m bench.growth [AXIS …]`.

The command line, the rounds and the figures are those of `python -m bench`. To extend it, add to the table `AXES`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import command, report
from bench.progress import Progress
from bench.results import BenchError, Cell, Outcome, from_structure, to_structure
from bench.runner import Options, compare, entrants
from bench.scenarios import SITE, Load, Scenario
from bench.servers import GRANIAN, GUNICORN_GTHREAD, STARMAN
from bench.serving import prepare_process

SERVERS = (STARMAN, GRANIAN, GUNICORN_GTHREAD)
GIGABYTE = 1_000_000_000
BODY_BYTES = (1, 1000, 1_000_000, 32_000_000, GIGABYTE)
# A load of bodies this large is one connection, and what has begun is awaited: a gigabyte takes longer than a round.
WHOLE_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class Axis:
    """A quantity: its points, and the scenario at a point. `question`: what the axis answers."""

    name: str
    unit: str
    question: str
    points: tuple[int, ...]
    scenario: Callable[[str, str, int], Scenario]


def _over_connections(name: str, summary: str, point: int) -> Scenario:
    return Scenario(name, summary, load=Load(point), servers=SERVERS)


def _over_threads(name: str, summary: str, point: int) -> Scenario:
    return Scenario(name, summary, "bench.workloads:waiting", Load(128), SERVERS, threads=point)


def _over_hello_threads(name: str, summary: str, point: int) -> Scenario:
    return Scenario(name, summary, load=Load(128), servers=SERVERS, threads=point)


def _over_workers(name: str, summary: str, point: int) -> Scenario:
    return Scenario(name, summary, load=Load(64), servers=SERVERS, workers=(point,), shared=True)


def _over_upload(name: str, summary: str, point: int) -> Scenario:
    load = _bulk(point, upload_bytes=point)
    return Scenario(name, summary, "bench.workloads:upload", load, SERVERS, peak=True)


def _over_download(name: str, summary: str, point: int) -> Scenario:
    return Scenario(name, summary, SITE, _bulk(point), SERVERS, path=f"/bytes/{point}", peak=True)


def _over_fields(name: str, summary: str, point: int) -> Scenario:
    return Scenario(name, summary, load=Load(fields=point), servers=SERVERS)


def _bulk(point: int, upload_bytes: int = 0) -> Load:
    large = point >= WHOLE_BYTES
    return Load(1 if large else 8, upload_bytes=upload_bytes, whole=large)


AXES = {
    axis.name: axis
    for axis in (
        Axis("connections", "connections", "hello, all connections busy", (10, 100, 1000, 10_000), _over_connections),
        Axis("threads-io", "threads", "an application that waits 5 ms, 128 connections", (1, 2, 4, 8, 16, 32, 64), _over_threads),
        Axis("threads", "threads", "hello, 128 connections", (1, 2, 4, 8, 16, 32, 64), _over_hello_threads),
        Axis("workers", "workers", "hello, 64 connections, on two cores that the client shares", (1, 2, 4, 8, 16), _over_workers),
        Axis("upload", "bytes of a request's body", "a body is sent, and read by the application", BODY_BYTES, _over_upload),
        Axis("download", "bytes of a response's body", "a body is yielded in pieces of 64 kB", BODY_BYTES, _over_download),
        Axis("fields", "header fields more", "hello, each field 38 bytes", (0, 8, 16, 32, 64), _over_fields),
    )
}

Grown = dict[str, list[tuple[int, Outcome]]]


def main() -> int:
    """Measure. Markdown goes to a named file or standard output, progress to standard error."""
    listed = "axes:\n" + "\n".join(f"  {name:12}{axis.question}; {axis.points}" for name, axis in AXES.items())
    parser = command.parser("python -m bench.growth", "Measure how cost grows with one quantity.", "AXIS", listed)
    command.add_servers(parser)
    parser.add_argument(
        "--points", type=int, metavar="N", default=None, help="only the first N points of each axis (default: all)"
    )
    given = parser.parse_args()
    chosen = command.names(parser, given.names, AXES, tuple(AXES), "axis")
    if given.points is not None and given.points < 1:
        parser.error("--points must be 1 or more")
    command.check(parser, given)
    try:
        if given.source:
            about, grown = read(given.source)
            grown = {name: grown[name] for name in chosen if name in grown}
        else:
            prepare_process()
            options = command.options(given)
            about = command.about(options)
            grown = _measure([AXES[name] for name in chosen], given, options, about)
        _show(given, about, grown)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    cells = [outcome.cells[0] for points in grown.values() for _, outcome in points if outcome.cells]
    return 1 if not cells or any(cell.failure for cell in cells) else 0


def document(about: dict[str, Any], grown: Grown) -> dict[str, Any]:
    """All results, as a structure for JSON."""
    axes = [
        {
            "axis": name,
            "unit": AXES[name].unit,
            "points": [{"point": point, **to_structure(outcome)} for point, outcome in points],
        }
        for name, points in grown.items()
    ]
    return {"about": about, "axes": axes}


def read(path: Path) -> tuple[dict[str, Any], Grown]:
    """Read a file that was written from `document`. Raises BenchError if it is another file."""
    structure = report.load(path)
    try:
        grown = {
            axis["axis"]: [(point["point"], from_structure(point)) for point in axis["points"]]
            for axis in structure["axes"]
            if axis["axis"] in AXES
        }
        return structure["about"], grown
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} is not a result of bench.growth: {error!r}") from error


def markdown(about: dict[str, Any], grown: Grown) -> str:
    """A table for each axis: a row for each point and server."""
    parts = [report.sentence(about)]
    for name, points in grown.items():
        axis = AXES[name]
        rows = [_row(point, cell) for point, outcome in points for cell in outcome.cells]
        parts += [
            f"### Over {axis.unit}" + (", 5 ms each" if name == "threads-io" else ""),
            f"{axis.question[0].upper()}{axis.question[1:]}.",
        ]
        parts.append(report.grid((axis.unit, "server", "requests/s", "p50 ms", "p99 ms", "CPU µs", "memory MB"), rows))
    return "\n\n".join(parts)


def _measure(axes: Sequence[Axis], given: Any, options: Options, about: dict[str, Any]) -> Grown:
    scenarios = {
        axis.name: [
            (point, axis.scenario(axis.name, f"{axis.question}: {point} {axis.unit}", point))
            for point in axis.points[: given.points]
        ]
        for axis in axes
    }
    each = len(entrants(Scenario("any", "", servers=SERVERS), given.servers))
    progress = Progress(options.rounds * each * sum(map(len, scenarios.values())))
    command.mention_missing(SERVERS, given.servers, progress)
    grown: Grown = {}
    for name, points in scenarios.items():
        grown[name] = []
        for point, scenario in points:
            taking_part = entrants(scenario, given.servers)
            grown[name].append((point, compare(scenario, taking_part, options, progress)))
            if given.json:
                report.write_json(given.json, document(about, grown))
    progress.end()
    return grown


def _show(given: Any, about: dict[str, Any], grown: Grown) -> None:
    if given.json:
        report.write_json(given.json, document(about, grown))
    if given.plots:
        from bench import plots

        for name, points in grown.items():
            axis = AXES[name]
            plots.lines(
                axis.question, axis.unit, [point for point, _ in points], _series(points), given.plots / f"growth-{name}.svg"
            )
    if given.markdown:
        report.put(given.markdown, "growth", markdown(about, grown) + command.images(given, "growth-*.svg"))
    elif not given.json:
        print(markdown(about, grown))


def _series(points: Sequence[tuple[int, Outcome]]) -> dict[str, list[Cell]]:
    names = dict.fromkeys(cell.server for _, outcome in points for cell in outcome.cells)
    return {name: [cell for _, outcome in points for cell in outcome.cells if cell.server == name] for name in names}


def _row(point: int, cell: Cell) -> tuple[str, ...]:
    if cell.failure:
        return (f"{point:,}", cell.server, f"no result: {cell.failure}", "", "", "", "")
    cpu, memory = cell.median(lambda turn: turn.cpu_per_request), cell.median(lambda turn: turn.memory_bytes) / report.MEGABYTE
    latencies = (report.milliseconds(cell, percent) for percent in (50.0, 99.0))
    return (f"{point:,}", cell.server, report.number(cell.rate), *latencies, report.number(cpu), f"{memory:.1f}")


if __name__ == "__main__":
    sys.exit(main())
