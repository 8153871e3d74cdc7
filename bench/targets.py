"""Lists starman's aims, and compares a run with them. Pure: outcomes in, rows out."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bench.results import Cell, Outcome, Turn, rate_of, ratio
from bench.scenarios import SCENARIOS
from bench.servers import STARMAN_COMPILED

IDLE_BYTES = 8192


@dataclass(frozen=True, slots=True)
class Target:
    """One aim: `figure` of a scenario's outcome is at least `aim`, or at most with `at_most`.

    `figure` gets the outcome and the names of the `peers`, and returns None if there is nothing to compare with.
    """

    scenario: str
    text: str
    figure: Callable[[Outcome, Sequence[str]], float | None]
    aim: float
    peers: tuple[str, ...] = ()
    at_most: bool = False
    unit: str = ""

    def by(self, measured: float) -> float:
        """The distance to the aim as a share of it, 0.1 for 10 %: positive beyond the aim, negative short of it."""
        distance = measured / self.aim - 1
        return -distance if self.at_most else distance


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a target. `measured` None: there is none, and `why` says so. `compiled`: the same figure of
    compiled starman; None if that was not measured."""

    target: Target
    measured: float | None
    why: str = ""
    compiled: float | None = None

    @property
    def met(self) -> bool:
        """Whether it was measured and reached."""
        return self.measured is not None and self.by >= 0

    @property
    def by(self) -> float:
        """The distance to the aim, as `Target.by` gives it; 0 without a figure."""
        return 0.0 if self.measured is None else self.target.by(self.measured)


def times_rate(outcome: Outcome, peers: Sequence[str]) -> float | None:
    """The first server's rate divided by that of the best peer in the same round; median of the rounds."""
    first, others = _first(outcome), [cell for name in peers if (cell := outcome.find(name)) is not None]
    if first is None or not others:
        return None
    rounds = zip(first.turns, *(other.turns for other in others), strict=False)
    ratios = [rate_of(mine) / best for mine, *theirs in rounds if (best := max(map(rate_of, theirs)))]
    return statistics.median(ratios) if ratios else None


def times_p99(outcome: Outcome, peers: Sequence[str]) -> float | None:
    """The first server's p99 divided by the peer's; median of the rounds."""
    first, other = _first(outcome), outcome.find(peers[0])
    return None if first is None or other is None else ratio(first, other, _p99)


def share_of_ideal(outcome: Outcome, peers: Sequence[str]) -> float | None:
    """The first server's rate divided by the rate that the application allows its threads."""
    first = _first(outcome)
    return None if first is None else first.rate / (SCENARIOS[outcome.scenario].ideal * first.threads * first.workers)


def kept(outcome: Outcome, peers: Sequence[str]) -> float | None:
    """The share of its rate that the first server keeps with other connections beside the load."""
    first = _first(outcome)
    return None if first is None else first.median(lambda turn: turn.kept)


def bytes_beside(outcome: Outcome, peers: Sequence[str]) -> float | None:
    """The first server's private memory for each connection beside the load."""
    first = _first(outcome)
    return None if first is None else first.median(lambda turn: turn.beside_bytes or 0.0)


def growth_with_workers(outcome: Outcome, peers: Sequence[str]) -> float | None:
    """The first server's growth from 1 to 2 workers, divided by the peer's, round by round."""
    cells = [outcome.find(name, workers) for name in (outcome.cells[0].server, peers[0]) for workers in (2, 1)]
    if None in cells:
        return None
    rounds = zip(*(cell.turns for cell in cells if cell is not None), strict=False)
    grown = [
        rate_of(two) / rate_of(one) / (rate_of(their_two) / rate_of(their_one))
        for two, one, their_two, their_one in rounds
        if rate_of(one) and rate_of(their_one) and rate_of(their_two)
    ]
    return statistics.median(grown) if grown else None


def _p99(turn: Turn) -> float:
    return turn.result.latencies[99.0]


def _first(outcome: Outcome) -> Cell | None:
    return None if not outcome.cells or outcome.cells[0].failure else outcome.cells[0]


def _rates(scenario: str, *aims: tuple[str, float]) -> tuple[Target, ...]:
    """Targets of the rate against single peers."""
    return tuple(Target(scenario, f"rate by that of {peer}", times_rate, aim, (peer,)) for peer, aim in aims)


def _framework(scenario: str) -> tuple[Target, ...]:
    return (
        *_rates(scenario, ("granian", 0.9), ("bjoern", 0.75), ("gunicorn gthread", 2.5)),
        Target(scenario, "p99 by that of granian", times_p99, 1.0, ("granian",), at_most=True),
    )


BULK_PEERS = ("granian", "gunicorn gthread", "gunicorn sync", "waitress")
ALL_PEERS = (*BULK_PEERS, "bjoern", "FastWSGI", "uvicorn+a2wsgi", "cheroot")

TARGETS = (
    *_rates("hello", ("granian", 1.0), ("bjoern", 0.75), ("gunicorn gthread", 10.0)),
    *_rates("hello-256", ("granian", 0.9)),
    *_rates("hello-1", ("granian", 0.9)),
    *_rates("hello-close", ("granian", 0.9), ("gunicorn sync", 3.0)),
    *_rates("hello-pipelined", ("granian", 1.5)),
    *_framework("flask"),
    *_framework("django"),
    *(
        Target(name, "rate by the best of granian, gunicorn, waitress", times_rate, 1.2, BULK_PEERS)
        for name in ("stream", "body", "file")
    ),
    Target("upload", "rate by that of the best peer", times_rate, 1.0, ALL_PEERS),
    Target("io", "rate by threads / latency", share_of_ideal, 0.97),
    *(
        Target(name, "p99 of the fast ones by gunicorn gthread's", times_p99, 0.5, ("gunicorn gthread",), at_most=True)
        for name in ("mix", "mix-paced")
    ),
    Target("access-log", "rate with the log by that without", times_rate, 0.9, ("starman",)),
    Target("idle", "memory of an idle connection", bytes_beside, IDLE_BYTES, at_most=True, unit=" bytes"),
    Target("idle", "rate beside them by that without", kept, 0.95),
    Target("workers", "growth from 1 to 2 workers by granian's", growth_with_workers, 1.0, ("granian",)),
)


def judge(outcomes: Sequence[Outcome], targets: Sequence[Target] = TARGETS) -> list[Verdict]:
    """A verdict for each target with a measured scenario."""
    by_name = {outcome.scenario: outcome for outcome in outcomes}
    verdicts = []
    for target in targets:
        if (outcome := by_name.get(target.scenario)) is not None:
            measured = target.figure(outcome, target.peers)
            compiled = _of(STARMAN_COMPILED.name, outcome)
            verdicts.append(
                Verdict(
                    target,
                    measured,
                    "" if measured is not None else _why(outcome, target),
                    None if compiled is None else target.figure(compiled, target.peers),
                )
            )
    return verdicts


def _of(server: str, outcome: Outcome) -> Outcome | None:
    """The outcome with another server in the first one's place; None if that has no result."""
    if outcome.find(server) is None:
        return None
    return replace(outcome, cells=tuple(sorted(outcome.cells, key=lambda cell: cell.server != server)))


def _why(outcome: Outcome, target: Target) -> str:
    concerned = (outcome.cells[0].server, *target.peers) if outcome.cells else target.peers
    failed = [f"{cell.server}: {cell.failure}" for cell in outcome.cells if cell.failure and cell.server in concerned]
    missing = [name for name in concerned if not any(cell.server == name for cell in outcome.cells)]
    return "; ".join([*failed, *(f"{name} was not measured" for name in missing)]) or "nothing to compare with"
