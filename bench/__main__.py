"""Measures scenarios and shows the results: `python -m bench [SCENARIO …|all]`. Exit status 1 if starman could not
be measured, 2 for wrong input."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any

from bench import command, report
from bench.progress import Progress
from bench.results import BenchError, Outcome
from bench.runner import Options, compare, entrants
from bench.scenarios import DEFAULT, SCENARIOS, Scenario
from bench.servers import Server
from bench.serving import prepare_process


def main() -> int:
    """Measure, or read earlier results. Markdown goes to a named file or standard output, progress to standard
    error."""
    if sys.argv[1:2] == ["reload"]:
        from bench import reload

        return reload.main(sys.argv[2:])
    parser = command.parser("python -m bench", "Measure starman beside other servers.", "SCENARIO", _listed())
    command.add_servers(parser)
    parser.add_argument("--list", action="store_true", help="list scenarios and servers, and measure nothing")
    given = parser.parse_args()
    names = command.names(parser, given.names, SCENARIOS, DEFAULT, "scenario")
    command.check(parser, given)
    if given.list:
        print(_listed())
        return 0
    try:
        if given.source:
            about, outcomes = report.read(given.source)
            outcomes = [outcome for outcome in outcomes if not given.names or outcome.scenario in names]
        else:
            prepare_process()
            options = command.options(given)
            about = command.about(options)
            outcomes = _measure([SCENARIOS[name] for name in names], given, options, about)
        _show(given, about, outcomes)
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 1 if any(not outcome.cells or outcome.cells[0].failure for outcome in outcomes) else 0


def _measure(scenarios: list[Scenario], given: Any, options: Options, about: dict[str, Any]) -> list[Outcome]:
    """Measure all scenarios. Write the results after each, so that an interruption loses at most one."""
    taking_part = {scenario.name: entrants(scenario, given.servers) for scenario in scenarios}
    progress = Progress(options.rounds * sum(map(len, taking_part.values())))
    command.mention_missing(_concerned(scenarios), given.servers, progress)
    outcomes: list[Outcome] = []
    for scenario in scenarios:
        if not taking_part[scenario.name]:
            progress.note(f"{scenario.name}: none of its servers is installed or chosen")
            continue
        outcomes.append(compare(scenario, taking_part[scenario.name], options, progress))
        if given.json:
            report.write_json(given.json, report.document(about, outcomes))
    progress.end()
    if not outcomes:
        raise BenchError("nothing was measured")
    return outcomes


def _show(given: Any, about: dict[str, Any], outcomes: list[Outcome]) -> None:
    text = report.markdown(about, outcomes)
    if given.json:
        report.write_json(given.json, report.document(about, outcomes))
    if given.plots:
        from bench import plots

        plots.draw(outcomes, given.plots)
    if given.markdown:
        report.put(given.markdown, "bench", text + command.images(given, "bench-*.svg"))
    elif not given.json:
        print(text)


def _concerned(scenarios: Iterable[Scenario]) -> list[Server]:
    return list({server.name: server for scenario in scenarios for server in scenario.servers}.values())


def _listed() -> str:
    lines = ["scenarios:", *(f"  {name:17}{scenario.summary}" for name, scenario in SCENARIOS.items()), "", "servers:"]
    for server in _concerned(SCENARIOS.values()):
        lines.append(f"  {server.name:32}{server.version() or f'not installed: {server.install}'}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
