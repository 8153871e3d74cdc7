"""Compares loop and threads that take turns with a plain pool of threads, by interpreter: `python -m bench.turns
[APPLICATION …]`.

The plain pool is starman in a loop of the caller (`serve()`), where the loop never parks and holds nothing back.
Each application is measured twice: by wrk for rate and latencies, and by our own client, where some connections are
new for each request and the others are kept. That shows the requests that wait: newcomers, and the connection that
is served least.
"""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import command, report
from bench.progress import Progress
from bench.results import BenchError, Cell, Outcome, Turn, from_structure, ratio, to_structure
from bench.runner import Options, compare, entrants
from bench.scenarios import SCENARIOS, Load, Scenario
from bench.servers import STARMAN, STARMAN_POOL, Interpreter, Server, run_by
from bench.serving import REPOSITORY, environment, prepare_process

APPLICATIONS = ("hello", "flask", "django", "cpu", "io")
# Of all 32 connections; the others are kept.
NEWCOMERS = 4
# What tells the version of an interpreter, if it has what is measured.
PROBE = "import sys, anyio, django, flask, httptools, uvloop; print('%d.%d' % sys.version_info[:2])"

COLOURS = {"3.11": "#d55e00", "3.12": "#0072b2", "3.13": "#009e73"}


@dataclass(frozen=True, slots=True)
class Compared:
    """An application: under load, and with newcomers. Both have the cells of each interpreter's pool, then of
    turns."""

    application: str
    loaded: Outcome
    mixed: Outcome

    def pairs(self) -> list[tuple[str, Cell, Cell]]:
        """Version, pool and turns of each interpreter."""
        cells = self.loaded.cells
        return [(_version(pool.server), pool, turns) for pool, turns in zip(cells[::2], cells[1::2], strict=True)]


def main() -> int:
    """Measure, and print Markdown on standard output if no file is named; progress goes to standard error."""
    listed = "applications:\n" + "\n".join(f"  {name:8}{SCENARIOS[name].summary}" for name in APPLICATIONS)
    parser = command.parser(
        "python -m bench.turns", "Measure starman's turns beside a plain pool of threads.", "APPLICATION", listed
    )
    parser.add_argument(
        "--pythons",
        type=_paths,
        metavar="PATH,…",
        help="interpreters, each with the extra `bench` (default: of all environments that `make bench-venv` has made here)",
    )
    given = parser.parse_args()
    chosen = command.names(parser, given.names, APPLICATIONS, APPLICATIONS, "application")
    command.check(parser, given)
    try:
        if given.source:
            about, found = read(given.source)
            found = [compared for compared in found if compared.application in chosen]
        else:
            prepare_process()
            options = command.options(given)
            interpreters = find_interpreters(given.pythons)
            about = {**command.about(options), "python": ", ".join(each.version for each in interpreters)}
            found = _measure(chosen, interpreters, given, options, about)
        _show(given, about, found)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 1 if not found or any(cell.failure for each in found for cell in (*each.loaded.cells, *each.mixed.cells)) else 0


def find_interpreters(paths: Sequence[Path] | None) -> list[Interpreter]:
    """The interpreters at these paths, or of this checkout's environments, or the running one; one for each
    version. Raises BenchError if one does not run, or lacks a measured server."""
    looked_at = paths or [stamp.parent / "bin" / "python" for stamp in REPOSITORY.glob(".venv*/bench.stamp")]
    found = {}
    for path in looked_at or [Path(sys.executable)]:
        try:
            done = subprocess.run([path, "-c", PROBE], env=environment(), capture_output=True, text=True, timeout=60, check=False)
        except OSError as error:
            raise BenchError(f"{path} does not run: {error.strerror}") from None
        if done.returncode:
            words = done.stderr.strip().rpartition("\n")[2] or f"status {done.returncode}"
            raise BenchError(f"{path} lacks the extra `bench`: {words}")
        version = done.stdout.strip()
        found[version] = Interpreter(str(path), version)
    return sorted(found.values(), key=lambda interpreter: [int(part) for part in interpreter.version.split(".")])


def scenarios(name: str, interpreters: Sequence[Interpreter]) -> tuple[Scenario, Scenario]:
    """The scenarios of an application: under load, and with newcomers."""
    servers: list[Server] = []
    for interpreter in interpreters:
        servers += [run_by(STARMAN_POOL, interpreter), run_by(STARMAN, interpreter)]
    loaded = replace(SCENARIOS[name], servers=tuple(servers), load=Load())
    mixed = replace(loaded, load=Load(newcomers=NEWCOMERS), summary=f"{loaded.summary}, {NEWCOMERS} of them new for each request")
    return loaded, mixed


def document(about: dict[str, Any], found: Sequence[Compared]) -> dict[str, Any]:
    """All results, as a structure for JSON."""
    applications = [
        {"application": each.application, "loaded": to_structure(each.loaded), "mixed": to_structure(each.mixed)}
        for each in found
    ]
    return {"about": about, "applications": applications}


def read(path: Path) -> tuple[dict[str, Any], list[Compared]]:
    """Read a file that was written from `document`. Raises BenchError if it is another file."""
    structure = report.load(path)
    try:
        return structure["about"], [
            Compared(each["application"], from_structure(each["loaded"]), from_structure(each["mixed"]))
            for each in structure["applications"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} is not a result of bench.turns: {error!r}") from error


HEAD = (
    "application",
    "Python",
    "",
    "requests/s",
    "rate by the pool's",
    "p50 ms",
    "p99 ms",
    "p99 by the pool's",
    "longest ms",
    "new connections: p99 ms",
    "served least",
)


def markdown(about: dict[str, Any], found: Sequence[Compared]) -> str:
    """One table, with two rows for each application and interpreter."""
    rows = []
    for each in found:
        for version, pool, turns in each.pairs():
            rows.append(_row(each, version, "plain pool", pool, None))
            rows.append(_row(each, version, "turns", turns, pool))
    return f"{report.sentence(about)}\n\n{report.grid(HEAD, rows)}"


def _row(compared: Compared, version: str, kind: str, cell: Cell, pool: Cell | None) -> tuple[str, ...]:
    if cell.failure:
        return (compared.application, version, kind, f"no result: {cell.failure}", *[""] * (len(HEAD) - 4))
    mixed = compared.mixed.find(cell.server)
    return (
        compared.application,
        version,
        kind,
        report.number(cell.rate),
        _times(cell, pool, lambda turn: turn.result.rate),
        report.milliseconds(cell, 50.0),
        report.milliseconds(cell, 99.0),
        _times(cell, pool, lambda turn: turn.result.latencies[99.0]),
        report.milliseconds(cell, 100.0),
        _shown(mixed, lambda turn: turn.result.new.get(99.0, math.nan)),
        _shown(mixed, lambda turn: math.nan if turn.result.least is None else turn.result.least),
    )


def _times(cell: Cell, pool: Cell | None, of: Callable[[Turn], float]) -> str:
    times = ratio(cell, pool, of) if pool else None
    return "" if times is None else f"{times:.2f}"


def _shown(cell: Cell | None, of: Callable[[Turn], float]) -> str:
    value = cell.median(of) if cell else math.nan
    return "" if math.isnan(value) else f"{value:.2f}"


def _version(server: str) -> str:
    """The version, which `run_by` has appended to the name."""
    return server.rpartition(", ")[2]


def _measure(
    names: Sequence[str], interpreters: Sequence[Interpreter], given: Any, options: Options, about: dict[str, Any]
) -> list[Compared]:
    progress = Progress(options.rounds * 2 * 2 * len(interpreters) * len(names))
    found = []
    for name in names:
        loaded, mixed = scenarios(name, interpreters)
        outcomes = [compare(scenario, entrants(scenario), options, progress) for scenario in (loaded, mixed)]
        found.append(Compared(name, *outcomes))
        if given.json:
            report.write_json(given.json, document(about, found))
    progress.end()
    return found


def _show(given: Any, about: dict[str, Any], found: Sequence[Compared]) -> None:
    if given.json:
        report.write_json(given.json, document(about, found))
    if given.plots:
        from bench import plots

        plots.percentile_curves([each.loaded for each in found], given.plots / "turns-latency.svg", _look)
    if given.markdown:
        report.put(given.markdown, "turns", markdown(about, found) + command.images(given, "turns-*.svg"))
    elif not given.json:
        print(markdown(about, found))


def _look(server: str) -> dict[str, Any]:
    """The style of a curve: a colour for each version, dashed for the pool."""
    version = _version(server)
    plain = server.startswith(STARMAN_POOL.name)
    return {
        "label": f"{'plain pool' if plain else 'turns'}, {version}",
        "color": COLOURS.get(version, "#555555"),
        "linestyle": "--" if plain else "-",
        "marker": "o",
        "markersize": 4,
        "linewidth": 1.3 if plain else 2.2,
    }


def _paths(text: str) -> list[Path]:
    return [Path(each).absolute() for each in text.split(",") if each]


if __name__ == "__main__":
    sys.exit(main())
