"""`python -m bench [SCENARIO …] [--rounds N] [--seconds N] [--json]`. Exit status 1 if something could not be measured."""

from __future__ import annotations

import argparse
import json
import sys

from bench import report
from bench.runner import BenchError, Cores, measure
from bench.scenarios import DEFAULT, SCENARIOS, Scenario
from bench.wrk import WrkError


def main() -> int:
    """Measure, and print a table or JSON on standard output; progress goes to standard error."""
    arguments = _parse()
    cores = Cores.choose()
    if cores.server is None:
        print("Server and client share their cores: pinning needs taskset and two of them.", file=sys.stderr)
    results = []
    for name in arguments.scenarios or [DEFAULT]:
        scenario = SCENARIOS[name]
        _mention_missing(scenario)
        try:
            measured = measure(scenario, arguments.rounds, arguments.seconds, cores, _progress)
        except (BenchError, WrkError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        results.append((scenario, measured))
    if arguments.json:
        document = {"machine": report.machine(cores), "results": [report.structure(*result) for result in results]}
        print(json.dumps(document, indent=2))
    else:
        about = ", ".join(f"{name} {value}" for name, value in report.machine(cores).items())
        print("\n\n".join([about, *(report.table(*result) for result in results)]))
    return 0


def _parse() -> argparse.Namespace:
    listed = "\n".join(f"  {name:15}{scenario.summary}" for name, scenario in SCENARIOS.items())
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure starman beside other servers with wrk.",
        epilog=f"scenarios:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=f"which to run (default: {DEFAULT})")
    parser.add_argument("--rounds", type=_positive, default=5, help="rounds, of every server in turn (default: 5)")
    parser.add_argument("--seconds", type=_positive, default=4, help="seconds for each server in a round (default: 4)")
    parser.add_argument("--json", action="store_true", help="print JSON, with every round")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.scenarios if name not in SCENARIOS]
    if unknown:
        parser.error(f"no scenario {', '.join(unknown)}; there are {', '.join(SCENARIOS)}")
    return arguments


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return number


def _mention_missing(scenario: Scenario) -> None:
    for server in scenario.servers:
        if server.version() is None:
            print(f"{server.name} is left out: {server.package} is not installed (make bench installs it)", file=sys.stderr)


def _progress(text: str) -> None:
    print(text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
