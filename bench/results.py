"""Holds results as values, with the arithmetic on them. No processes, no files: only structures for JSON."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

# The percentiles that are kept of a run; 100 is the longest.
PERCENTS = (50.0, 75.0, 90.0, 95.0, 99.0, 99.9, 100.0)

Percentiles = dict[float, float]


class BenchError(Exception):
    """A server, a client or a companion failed, so there is no result. The text is one line."""


@dataclass(frozen=True, slots=True)
class Result:
    """One run of a client.

    `requests` got a response with 2xx or 3xx in `seconds`; `errors` failed or got another status. `latencies` are
    milliseconds by percentile; `slow` are those of the slow class of a mix, and `new` those of newcomers, which are
    not in `latencies`. `least`: the responses of the connection that was served least, divided by the mean of all
    kept ones. 1 is perfectly fair; None where the client does not tell. `client_busy`: the share of one core that
    the client used. Near 1, the client was the limit, not the server.
    """

    requests: int
    seconds: float
    errors: int
    latencies: Percentiles
    slow: Percentiles = field(default_factory=dict)
    new: Percentiles = field(default_factory=dict)
    least: float | None = None
    client_busy: float = 0.0

    @property
    def rate(self) -> float:
        """Good responses per second."""
        return self.requests / self.seconds if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """One server's part of a round. `cpu_seconds`: user and system time of its processes during the run.
    `memory_bytes`: their PSS after the run, or the highest during it, as the scenario says. -1 where the system
    does not tell.

    With other connections beside the load, `alone` is the rate without them, and `beside_bytes` the private memory
    that each of them took.
    """

    result: Result
    cpu_seconds: float = -1.0
    memory_bytes: int = -1
    alone: float | None = None
    beside_bytes: float | None = None

    @property
    def cpu_per_request(self) -> float:
        """Microseconds of CPU time per request; -1 if unknown."""
        return self.cpu_seconds / self.result.requests * 1e6 if self.cpu_seconds >= 0 and self.result.requests else -1.0

    @property
    def kept(self) -> float:
        """The rate with other connections beside the load, divided by the rate without them. 1 if there were none."""
        return self.result.rate / self.alone if self.alone else 1.0


@dataclass(frozen=True, slots=True)
class Cell:
    """All turns of one server in one scenario. `failure`: a line that says why there is no result. The turns do not
    count then."""

    server: str
    version: str
    workers: int
    threads: int
    turns: tuple[Turn, ...]
    failure: str = ""

    def median(self, of: Callable[[Turn], float]) -> float:
        """The median over the rounds."""
        return statistics.median(of(turn) for turn in self.turns)

    @property
    def rate(self) -> float:
        """Requests per second, median of the rounds."""
        return self.median(lambda turn: turn.result.rate)

    def latency(self, percent: float) -> float:
        """Milliseconds, median of the rounds."""
        return self.median(lambda turn: turn.result.latencies.get(percent, math.nan))

    @property
    def errors(self) -> int:
        """The errors of all rounds."""
        return sum(turn.result.errors for turn in self.turns)


@dataclass(frozen=True, slots=True)
class Outcome:
    """A scenario that was measured. The other cells are compared with the first one."""

    scenario: str
    summary: str
    cells: tuple[Cell, ...]

    def find(self, server: str, workers: int | None = None) -> Cell | None:
        """The cell of a server, if it has a result."""
        for cell in self.cells:
            if cell.server == server and workers in (None, cell.workers) and not cell.failure:
                return cell
        return None

    def reference(self, cell: Cell) -> Cell:
        """The cell that a cell is compared with: the first server's, with as many workers."""
        return self.find(self.cells[0].server, cell.workers) or self.cells[0]

    def label(self, cell: Cell) -> str:
        """The server's name, and its workers where the scenario has several counts of them."""
        counts = {each.workers for each in self.cells}
        return f"{cell.server}, {cell.workers} worker{'s' * (cell.workers > 1)}" if len(counts) > 1 else cell.server


def rate_of(turn: Turn) -> float:
    """The figure that most ratios are of."""
    return turn.result.rate


def ratio(cell: Cell, other: Cell, of: Callable[[Turn], float] = rate_of) -> float | None:
    """The median of the rounds' ratios of one server to another. None if failures or zeros leave no round."""
    if cell.failure or other.failure:
        return None
    ratios = [of(mine) / of(theirs) for mine, theirs in zip(cell.turns, other.turns, strict=False) if of(theirs)]
    return statistics.median(ratios) if ratios else None


def percentiles(milliseconds: Sequence[float]) -> Percentiles:
    """Nearest-rank percentiles of latencies; empty without latencies."""
    if not milliseconds:
        return {}
    ordered = sorted(milliseconds)
    return {percent: ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)] for percent in PERCENTS}


def to_structure(outcome: Outcome) -> dict[str, Any]:
    """For JSON: every round, and the medians."""
    structure = asdict(outcome)
    for cell, made in zip(outcome.cells, structure["cells"], strict=True):
        made["label"] = outcome.label(cell)
        if not cell.failure:
            made["medians"] = {
                "rate": cell.rate,
                "p50_ms": cell.latency(50.0),
                "p99_ms": cell.latency(99.0),
                "longest_ms": cell.latency(100.0),
                "cpu_us": cell.median(lambda turn: turn.cpu_per_request),
                "memory_bytes": cell.median(lambda turn: turn.memory_bytes),
                "times": ratio(outcome.reference(cell), cell),
            }
    return structure


def from_structure(structure: dict[str, Any]) -> Outcome:
    """Read the result of `to_structure`, also after JSON. Raises KeyError, TypeError or ValueError for anything
    else."""
    return Outcome(structure["scenario"], structure["summary"], tuple(_cell(cell) for cell in structure["cells"]))


def _cell(structure: dict[str, Any]) -> Cell:
    given = {key: structure[key] for key in ("server", "version", "workers", "threads", "failure")}
    return Cell(turns=tuple(_turn(turn) for turn in structure["turns"]), **given)


def _turn(structure: dict[str, Any]) -> Turn:
    return Turn(**{**structure, "result": result_from(structure["result"])})


def result_from(structure: dict[str, Any]) -> Result:
    """A Result from JSON, where the names of percentiles are texts."""
    known = ("latencies", "slow", "new")  # an earlier run may lack some
    latencies = {name: {float(at): value for at, value in structure[name].items()} for name in known if name in structure}
    return Result(**{**structure, **latencies})
