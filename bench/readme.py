"""Measures what the README shows: Flask and Django behind nginx, by a UNIX socket. `python -m bench.readme`.

The scenarios are those of `python -m bench flask-nginx django-nginx`. Their chart is an SVG of its own, which needs no
matplotlib, and follows the colour scheme of the reader. The sentence below it has the same figures.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from bench import command, report
from bench.progress import Progress
from bench.results import BenchError, Cell, Outcome, ratio
from bench.runner import compare, entrants
from bench.scenarios import SCENARIOS
from bench.servers import GRANIAN, GUNICORN_GTHREAD, STARMAN_COMPILED
from bench.serving import prepare_process

APPLICATIONS = {"flask-nginx": "Flask", "django-nginx": "Django"}
# What the chart shows, by the names that it gives them.
SHOWN = {STARMAN_COMPILED.name: "starman", GRANIAN.name: "granian", GUNICORN_GTHREAD.name: "gunicorn"}
CHART = "readme.svg"

WIDTH, LEFT, PANEL, GAP = 860, 165, 285, 70
TOP, ROW, BAR, APART = 74, 26, 17, 22
STYLE = """
text { font: 13px -apple-system, "Segoe UI", "Helvetica Neue", Arial, sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 } .ours { font-weight: 600 } .small { font-size: 11.5px; fill: #59636e }
.card { fill: #ffffff; stroke: #d1d9e0 } .bar { fill: #9aa4af } .bar.ours { fill: #d55e00 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .card { fill: #0d1117; stroke: #3d444d }
  .bar { fill: #59636e } .bar.ours { fill: #f0883e }
}
"""


def main() -> int:
    """Measure, or read an earlier run; write JSON, the chart and the sentence where the options say."""
    listed = "applications:\n" + "\n".join(f"  {name:14}{SCENARIOS[name].summary}" for name in APPLICATIONS)
    parser = command.parser("python -m bench.readme", "Measure what the README shows.", "APPLICATION", listed)
    parser.add_argument("--tables", type=Path, metavar="FILE", help="write the tables, between the markers of this page")
    given = parser.parse_args()
    names = command.names(parser, given.names, APPLICATIONS, tuple(APPLICATIONS), "application")
    command.check(parser, given)
    try:
        if given.source:
            about, outcomes = report.read(given.source)
        else:
            prepare_process()
            about, outcomes = _measure(names, given)
        _show(given, about, outcomes)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def sentence(outcomes: Sequence[Outcome]) -> str:
    """The ratios of the chart, in words. Raises BenchError if a server has no result."""
    told = []
    for outcome in outcomes:
        ours, *others = _cells(outcome)
        times = {cell.server: ratio(ours, cell) for cell in others}
        words = [f"{times[name]:.1f} times {SHOWN[name]}'s" for name in SHOWN if name in times]
        told.append(f"{APPLICATIONS[outcome.scenario]}: {' and '.join(words)} rate")
    first = outcomes[0]
    versions = ", ".join(f"{SHOWN[cell.server]} {cell.version}" for cell in _cells(first))
    return f"{'. '.join(told)}.\n({versions}; starman is compiled, as its wheels are.)"


def tables(about: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """Every server's figures, in a table for each application."""
    load = ""
    if "load_before" in about:  # not in a file of `python -m bench`
        before, after = about["load_before"][0], about["load_after"][0]
        load = f" The load of the machine was {before:.1f} before the run, and {after:.1f} after it."
    parts = [f"**{APPLICATIONS[outcome.scenario]}**\n\n{report.table(outcome)}" for outcome in outcomes]
    return "\n\n".join([f"{report.sentence(about)}{load}", *parts])


def chart(about: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The SVG: requests per second, and the 99th percentile of the latency. Raises BenchError if a server has no
    result."""
    quantities: tuple[tuple[str, Callable[[Cell], float], str], ...] = (
        ("requests per second (more is better)", lambda cell: cell.rate, ",.0f"),
        ("p99 latency in ms (less is better)", lambda cell: cell.latency(99.0), ".1f"),
    )
    drawn = []
    for place, (title, of, style) in enumerate(quantities):
        x = LEFT + place * (PANEL + GAP)
        drawn.append(f'<text class="title" x="{x}" y="48">{title}</text>')
        highest = max(of(cell) for outcome in outcomes for cell in _cells(outcome))
        for y, name, cell in _rows(outcomes):
            ours = " ours" if name == "starman" else ""
            width = PANEL * 0.86 * of(cell) / highest
            drawn.append(f'<rect class="bar{ours}" x="{x}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2"/>')
            drawn.append(f'<text class="{ours.strip()}" x="{x + width + 6:.1f}" y="{y + 13}">{of(cell):{style}}</text>')
    for y, name, _ in _rows(outcomes):
        ours = "ours" if name == "starman" else ""
        drawn.append(f'<text class="{ours}" x="{LEFT - 10}" y="{y + 13}" text-anchor="end">{name}</text>')
    for number, outcome in enumerate(outcomes):
        y = TOP + number * (len(SHOWN) * ROW + APART) + 13
        drawn.append(f'<text class="title" x="20" y="{y}">{APPLICATIONS[outcome.scenario]}</text>')
    height = TOP + len(outcomes) * (len(SHOWN) * ROW + APART) + 26
    text = f"nginx in front on a UNIX socket; one worker, 4 threads, 32 connections; CPython {about['python']}"
    rounds = f"medians of {about['rounds']} rounds in turn" if about["rounds"] > 1 else "one round"
    if about.get("load_before", [0])[0] > about["cpus"]:
        rounds += f"; busy machine (load {about['load_before'][0]:.0f})"
    drawn.append(f'<text class="small" x="20" y="{height - 16}">{escape(f"{text}; {rounds}")}</text>')
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">'
    card = f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>'
    title = f"<title>{escape(sentence(outcomes))}</title>"
    return "\n".join([head, title, f"<style>{STYLE}</style>", card, *drawn, "</svg>", ""])


def _rows(outcomes: Sequence[Outcome]) -> list[tuple[int, str, Cell]]:
    """The upper edge, the name and the cell of each bar of a panel."""
    return [
        (TOP + number * (len(SHOWN) * ROW + APART) + place * ROW, SHOWN[cell.server], cell)
        for number, outcome in enumerate(outcomes)
        for place, cell in enumerate(_cells(outcome))
    ]


def _cells(outcome: Outcome) -> list[Cell]:
    found = [outcome.find(name) for name in SHOWN]
    if None in found:
        raise BenchError(f"{outcome.scenario}: not every server of the README has a result; is starman compiled, by make?")
    return [cell for cell in found if cell is not None]


def _measure(names: Sequence[str], given: Any) -> tuple[dict[str, Any], list[Outcome]]:
    options = command.options(given)
    scenarios = [SCENARIOS[name] for name in names]
    taking_part = [entrants(scenario) for scenario in scenarios]
    about = {**command.about(options), "load_before": [round(each, 2) for each in os.getloadavg()]}
    progress = Progress(options.rounds * sum(map(len, taking_part)))
    outcomes = [compare(scenario, servers, options, progress) for scenario, servers in zip(scenarios, taking_part, strict=True)]
    progress.end()
    return {**about, "load_after": [round(each, 2) for each in os.getloadavg()]}, outcomes


def _show(given: Any, about: dict[str, Any], outcomes: Sequence[Outcome]) -> None:
    if given.json:
        report.write_json(given.json, report.document(about, outcomes))
    if given.plots:
        given.plots.mkdir(parents=True, exist_ok=True)
        Path(given.plots, CHART).write_text(chart(about, outcomes), "utf-8")
    if given.tables:
        report.put(given.tables, "nginx", tables(about, outcomes))
    if given.markdown:
        report.put(given.markdown, "readme", sentence(outcomes))
    elif not given.json:
        print(report.markdown(about, outcomes))


if __name__ == "__main__":
    sys.exit(main())
