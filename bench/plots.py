"""Draws results as SVG by matplotlib, which only this module imports (the extra `bench`).

A server has the same colour in every plot (servers.py), and its own marker in curves, so that colours need not be
told apart. The same results make the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from bench.results import PERCENTS, Cell, Outcome
from bench.servers import SERVERS

STYLE: Any = {
    "svg.hashsalt": "starman",
    "svg.fonttype": "none",  # text stays text: smaller, and searched for
    "font.size": 9,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "figure.facecolor": "white",
}
MARKERS = "osD^vP*X<>hp"
PANELS_IN_A_ROW = 3
CURVES = ("hello", "flask", "django", "io", "cpu", "mix")
CONNECTIONS = {"hello-1": 1, "hello": 32, "hello-256": 256}


def draw(outcomes: Sequence[Outcome], directory: Path) -> list[Path]:
    """Draw every plot that there are results for. Returns the files that were written."""
    by_name = {outcome.scenario: outcome for outcome in outcomes}
    written = [bars(outcomes, directory / "bench-rates.svg")]
    if curves := [by_name[name] for name in CURVES if name in by_name]:
        written.append(percentile_curves(curves, directory / "bench-latency.svg"))
    if set(CONNECTIONS) <= set(by_name):
        written.append(over_connections(by_name, directory / "bench-connections.svg"))
    return written


def bars(outcomes: Sequence[Outcome], path: Path) -> Path:
    """A panel for each scenario, a bar for each server."""
    tallest = max(len(outcome.cells) for outcome in outcomes)
    figure, panels = _panels(len(outcomes), 0.7 + 0.21 * tallest)
    figure.suptitle("Requests per second (longer is better)")
    for outcome, axes in zip(outcomes, panels, strict=True):
        axes.set_title(outcome.scenario, loc="left", fontweight="bold")
        axes.grid(visible=False)
        axes.xaxis.set_visible(False)
        axes.spines["bottom"].set_visible(False)
        good = [cell.rate for cell in outcome.cells if not cell.failure]
        highest = max(good, default=1.0)
        for place, cell in enumerate(outcome.cells):
            rate = 0.0 if cell.failure else cell.rate
            axes.barh(place, rate, color=colour(cell.server), height=0.75)
            told = "no result" if cell.failure else f"{rate:,.0f}"
            axes.text(rate + highest * 0.02, place, told, va="center", fontsize=7.5)
        axes.set_yticks(range(len(outcome.cells)), [outcome.label(cell) for cell in outcome.cells], fontsize=8)
        axes.set_ylim(tallest - 0.4, -0.6)
        axes.set_xlim(0, highest * 1.22)
        axes.tick_params(axis="y", length=0)
    return _save(figure, path)


Look = Callable[[str], dict[str, Any]]


def percentile_curves(outcomes: Sequence[Outcome], path: Path, look: Look | None = None) -> Path:
    """A panel for each scenario, a curve for each server: how long the slowest requests take. `look` returns the
    label and style of a server's curve; without it, they are the same as in all plots."""
    figure, panels = _panels(len(outcomes), 2.6)
    figure.suptitle("Latency by percentile (lower is better)")
    places = range(len(PERCENTS))
    for outcome, axes in zip(outcomes, panels, strict=True):
        axes.set_title(outcome.scenario, loc="left", fontweight="bold")
        for cell in _good(outcome):
            values = [cell.latency(percent) for percent in PERCENTS]
            axes.plot(places, values, **(look or _look)(cell.server))
        _logarithmic(axes)
        axes.set_ylabel("ms")
        axes.set_xticks(places, [*(f"{percent:g}" for percent in PERCENTS[:-1]), "longest"], fontsize=7.5)
    return _save(figure, path, panels)


def over_connections(by_name: dict[str, Outcome], path: Path) -> Path:
    """Rate and p99 of hello over the number of connections."""
    points = list(CONNECTIONS.values())
    series = {}
    for server in (cell.server for cell in by_name["hello"].cells):
        found = [by_name[name].find(server) for name in CONNECTIONS]
        if all(cell is not None for cell in found):
            series[server] = [cell for cell in found if cell is not None]
    return lines("hello over connections", "connections", points, series, path)


def lines(title: str, unit: str, points: Sequence[int], series: dict[str, list[Cell]], path: Path) -> Path:
    """Four panels over one quantity: rate, p99, CPU per request and memory, a line for each server."""
    figure, panels = _panels(4, 2.6, columns=2)
    figure.suptitle(title)
    quantities: tuple[tuple[str, Callable[[Cell], float]], ...] = (
        ("requests/s (higher is better)", lambda cell: cell.rate),
        ("p99 in ms (lower is better)", lambda cell: cell.latency(99.0)),
        ("CPU in µs a request (lower is better)", lambda cell: cell.median(lambda turn: turn.cpu_per_request)),
        ("memory in MB (lower is better)", lambda cell: cell.median(lambda turn: turn.memory_bytes) / 1e6),
    )
    logarithmic = len(points) > 1 and max(points) / max(1, min(points)) > 10
    for axes, (name, of) in zip(panels, quantities, strict=True):
        axes.set_title(name, loc="left")
        for server, cells in series.items():
            values = [math.nan if cell.failure else of(cell) for cell in cells]
            axes.plot(points[: len(values)], values, **_look(server))
        if logarithmic:
            axes.set_xscale("symlog" if min(points) == 0 else "log")
        axes.set_xticks(points, [_short(point) for point in points])
        axes.minorticks_off()
        axes.set_xlabel(unit)
        _scale(axes)
    return _save(figure, path, panels)


def colour(server: str) -> str:
    """A server's colour, marker and line in every plot."""
    return SERVERS[server].colour if server in SERVERS else "#555555"


def _look(server: str) -> dict[str, Any]:
    place = list(SERVERS).index(server) if server in SERVERS else -1
    ours = server == "starman"
    return {
        "label": server,
        "color": colour(server),
        "marker": MARKERS[place % len(MARKERS)],
        "markersize": 5,
        "linewidth": 2.4 if ours else 1.3,
        "zorder": 3 if ours else 2,
    }


def _scale(axes: Any) -> None:
    """From zero; logarithmic where a linear scale would hide all but the largest."""
    values = [value for line in axes.get_lines() for value in line.get_ydata() if math.isfinite(value) and value > 0]
    if values and max(values) > 100 * min(values):
        _logarithmic(axes)
    else:
        axes.set_ylim(0, max(values, default=1.0) * 1.1)


def _logarithmic(axes: Any) -> None:
    """A logarithmic scale with numbers as people write them."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _good(outcome: Outcome) -> list[Cell]:
    return [cell for cell in outcome.cells if not cell.failure]


def _short(point: int) -> str:
    for unit, name in ((10**9, "G"), (10**6, "M"), (10**3, "k")):
        if point >= unit:
            return f"{point / unit:g}{name}"
    return str(point)


def _panels(count: int, height: float, columns: int = PANELS_IN_A_ROW) -> tuple[Any, list[Any]]:
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    with mpl.rc_context(STYLE):
        figure, grid = plt.subplots(
            rows, columns, figsize=(3.8 * columns, height * rows + 0.9), squeeze=False, layout="constrained"
        )
    panels = list(grid.flat)
    for unused in panels[count:]:
        unused.set_visible(False)
    return figure, panels[:count]


def _save(figure: Any, path: Path, with_legend: Sequence[Any] = ()) -> Path:
    labels = {label: handle for axes in with_legend for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if labels:
        figure.legend(labels.values(), labels.keys(), loc="outside lower center", ncols=4, frameon=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with mpl.rc_context(STYLE):
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)
    return path
