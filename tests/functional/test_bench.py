"""`python -m bench` runs: a short round of whatever is installed, as JSON."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.functional.harness import REPOSITORY, environment
from tests.functional.tools import find_tool


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "bench", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120, check=False)


def test_a_short_run_measures_starman() -> None:
    find_tool("wrk")
    done = bench("hello", "--rounds", "1", "--seconds", "1", "--json")
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    starman = result["servers"][0]
    assert (starman["name"], starman["errors"], starman["times"]) == ("starman", 0, 1.0)
    assert starman["rate"] > 500


def test_an_unknown_scenario_is_refused() -> None:
    done = bench("no-such-scenario")
    assert done.returncode == 2
    assert "there are hello" in done.stderr
