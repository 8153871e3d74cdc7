"""`python -m bench` runs: short rounds of starman and gunicorn with every kind of load. The figures are not judged,
because CI is busy."""

from __future__ import annotations

import importlib.util
import json
import re
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from bench import processes, runner
from bench.overload import PATIENCE
from tests.functional.support.harness import REPOSITORY, environment, wait_until
from tests.functional.support.tools import find_tool

TINY = ("--rounds", "1", "--seconds", "0.2")
DRAWS = importlib.util.find_spec("matplotlib") is not None


def bench(*arguments: str, module: str = "bench") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=180, check=False)


def plots(directory: Path) -> tuple[str, ...]:
    return ("--plots", str(directory)) if DRAWS else ()


def cells_of(scenario: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {cell["label"]: cell for cell in scenario["cells"]}


def test_a_tiny_run_measures_with_every_kind_of_load(tmp_path: Path) -> None:
    find_tool("wrk")
    written = tmp_path / "bench.json"
    page = tmp_path / "page.md"
    # wrk as it is; wrk pipelining and uploading by Lua; our own client.
    names = ("hello", "hello-pipelined", "upload", "mix")
    output = ("--json", str(written), "--markdown", str(page), *plots(tmp_path))
    done = bench(*names, *TINY, "--servers", "starman,gunicorn gthread", *output)
    assert done.returncode == 0, done.stderr
    # How many there are depends on whether starman was compiled for the bench.
    assert re.search(r"^(\d+) of \1: mix", done.stderr, re.MULTILINE)
    document = json.loads(written.read_text())
    assert document["about"]["rounds"] == 1
    assert [scenario["scenario"] for scenario in document["scenarios"]] == list(names)
    for scenario in document["scenarios"]:
        starman = cells_of(scenario)["starman"]
        assert "gunicorn gthread" in cells_of(scenario)
        assert starman["failure"] == ""
        assert starman["medians"]["times"] == 1.0
        (turn,) = starman["turns"]
        assert turn["result"]["errors"] == 0
        assert turn["result"]["requests"] > 0
        assert turn["result"]["latencies"]["100.0"] > 0
    assert cells_of(document["scenarios"][-1])["starman"]["turns"][0]["result"]["slow"]["50.0"] >= 50
    judged = {(row["scenario"], row["target"]): row for row in document["targets"]}
    assert judged["hello", "rate by that of gunicorn gthread"]["aim"] == 10.0
    assert judged["hello", "rate by that of granian"]["measured"] is None
    text = page.read_text()
    assert text.startswith("<!-- bench -->\nCPython")
    assert "\n| starman " in text
    if DRAWS:
        assert "(bench-latency.svg)" in text
        assert (tmp_path / "bench-rates.svg").read_text().count("starman") >= len(names)
    # Shown again from the file, nothing has changed.
    again = tmp_path / "again"
    done = bench("--from", str(written), "--markdown", str(again / "page.md"), *plots(again))
    assert done.returncode == 0, done.stderr
    assert (again / "page.md").read_text() == text
    for drawn in tmp_path.glob("*.svg"):
        assert (again / drawn.name).read_bytes() == drawn.read_bytes()


def test_our_own_client_does_what_wrk_does(tmp_path: Path) -> None:
    names = ("hello", "hello-close", "hello-pipelined", "upload", "stream")
    done = bench(*names, *TINY, "--servers", "starman", "--generator", "own", "--json", str(tmp_path / "it.json"))
    assert done.returncode == 0, done.stderr
    for scenario in json.loads((tmp_path / "it.json").read_text())["scenarios"]:
        (turn,) = cells_of(scenario)["starman"]["turns"]
        assert (turn["result"]["requests"] > 0, turn["result"]["errors"]) == (True, 0), scenario["scenario"]


def test_a_load_beside_others(tmp_path: Path) -> None:
    find_tool("wrk")
    done = bench("slow-readers", *TINY, "--servers", "starman", "--json", str(tmp_path / "it.json"))
    assert done.returncode == 0, done.stderr
    (scenario,) = json.loads((tmp_path / "it.json").read_text())["scenarios"]
    (turn,) = cells_of(scenario)["starman"]["turns"]
    assert turn["alone"] > 0
    assert turn["beside_bytes"] is not None


def test_growth_is_measured_point_by_point(tmp_path: Path) -> None:
    written = tmp_path / "growth.json"
    output = ("--json", str(written), "--markdown", str(tmp_path / "page.md"), *plots(tmp_path))
    done = bench("fields", "--points", "2", *TINY, "--servers", "starman", *output, module="bench.growth")
    assert done.returncode == 0, done.stderr
    axes = {axis["axis"]: axis for axis in json.loads(written.read_text())["axes"]}
    assert [point["point"] for point in axes["fields"]["points"]] == [0, 8]
    assert all(point["cells"][0]["failure"] == "" for axis in axes.values() for point in axis["points"])
    assert (tmp_path / "page.md").read_text().count("| starman |") == 2
    assert not DRAWS or (tmp_path / "growth-fields.svg").exists()


def test_turns_are_measured_beside_a_plain_pool(tmp_path: Path) -> None:
    written = tmp_path / "turns.json"
    output = ("--json", str(written), "--markdown", str(tmp_path / "page.md"), *plots(tmp_path))
    done = bench("io", *TINY, "--pythons", sys.executable, *output, module="bench.turns")
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(written.read_text())["applications"]
    assert [cell["server"].partition(", 3.")[0] for cell in found["loaded"]["cells"]] == ["starman, plain pool", "starman"]
    for cell in found["mixed"]["cells"]:
        (turn,) = cell["turns"]
        assert 0 < turn["result"]["least"] <= 1
        assert turn["result"]["new"]["50.0"] >= 5
    assert (tmp_path / "page.md").read_text().count("| io |") == 2
    assert not DRAWS or (tmp_path / "turns-latency.svg").read_text().count("plain pool") == 1
    # Shown again from the file, nothing has changed.
    done = bench("--from", str(written), "--markdown", str(tmp_path / "again.md"), *plots(tmp_path), module="bench.turns")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again.md").read_text() == (tmp_path / "page.md").read_text()


def test_an_overload_is_measured_with_and_without_load_shedding() -> None:
    done = bench("--rounds", "1", "--seconds", "2", "--servers", "starman", module="bench.overload")
    assert done.returncode == 0, done.stderr
    head, _, *lines = done.stdout.strip().splitlines()
    assert [cell.strip() for cell in head.strip("|").split("|")][0::3] == ["server", "refused, %"]
    rows = {
        cells[0]: [float(cell) for cell in cells[1:]]
        for cells in ([*map(str.strip, line.strip("|").split("|"))] for line in lines)
    }
    assert list(rows) == ["starman, queue_timeout 0.5", "starman"]
    shedding, plain = rows.values()
    assert shedding[0] > 0
    assert shedding[2] > 0
    assert shedding[1] < PATIENCE
    assert plain[2] == 0, "without limits no request is refused"
    assert done.stderr.splitlines()[-2:] == ["round 1: starman, queue_timeout 0.5", "round 1: starman"]


def test_an_overload_of_no_server_is_refused_in_a_line() -> None:
    for arguments, said in (
        (("--servers", "bjoern"), "none of these servers is measured here, or installed; there are starman, queue_timeout 0.5"),
        (("--rounds", "0"), "'0' is not a whole number from 1 to 1000"),
    ):
        done = bench(*arguments, module="bench.overload")
        assert done.returncode == 2
        assert said in done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("python", "said"),
    [
        ("/nowhere/python", "bench: /nowhere/python does not run: No such file or directory"),
        ("/bin/false", "bench: /bin/false lacks the extra `bench`: status 1"),
    ],
)
def test_an_interpreter_that_cannot_be_measured_is_named(python: str, said: str) -> None:
    done = bench("--pythons", python, module="bench.turns")
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1] == said


def test_a_server_that_does_not_start_costs_its_cell_only() -> None:
    code = (
        "from bench import scenarios, servers, runner, serving, progress;"
        "both = (servers.STARMAN, servers.GUNICORN_SYNC);"
        "scenario = scenarios.Scenario('broken', '', 'bench.no_such_module:application', servers=both);"
        "options = runner.Options(1, 0.2, serving.Cores(), 'own');"
        "outcome = runner.compare(scenario, runner.entrants(scenario), options, progress.Progress(2));"
        "print([cell.failure for cell in outcome.cells])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ended with status") == 2


@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
def test_a_signal_ends_the_servers_too(tmp_path: Path) -> None:
    """They lead sessions of their own, so only the benchmark ends them."""
    command = [sys.executable, "-m", "bench", "hello", "--seconds", "60", "--servers", "starman", "--generator", "own"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment(), stdout=said, stderr=said)
    try:
        assert wait_until(lambda: "bench.client" in " ".join(map(processes.title, processes.descendants(process.pid))), 60)
        started = processes.descendants(process.pid)
        process.terminate()
        assert process.wait(30) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
    assert len(started) > 3  # the client, and the server with its worker
    assert wait_until(lambda: not any(map(processes.title, started)))
    assert "Traceback" not in (tmp_path / "said").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("no-such-scenario",), "there are hello"),
        (("--rounds", "0"), "'0' is not a whole number from 1 to 1000"),
        (("--seconds", "soon"), "'soon' is not a number of seconds"),
        (("--servers", "apache"), "no server is named 'apache'; there are starman"),
        (("--json", "/"), "/ is a directory"),
    ],
)
def test_wrong_input_is_refused_in_a_line(arguments: tuple[str, ...], said: str) -> None:
    done = bench(*arguments)
    assert done.returncode == 2
    assert said in done.stderr.strip().splitlines()[-1]


def test_scenarios_and_servers_are_listed() -> None:
    done = bench("--list")
    assert done.returncode == 0
    assert "\n  hello-256 " in done.stdout
    assert "\n  gunicorn gthread " in done.stdout


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_time_of_processes_that_have_ended_counts() -> None:
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    program = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', {burn!r}])\nprint('done', flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == b"done\n"
        assert processes.descendants(process.pid) == []
        assert processes.cpu_seconds(process.pid) >= 0.29
        process.stdin.write(b"\n")


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_server_is_left_when_it_has_come_to_rest() -> None:
    program = "import time\nwhile time.process_time() < 1: pass\nprint('done', flush=True)\ntime.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            began = processes.cpu_seconds(process.pid)
            while processes.cpu_seconds(process.pid) - began < 0.3:
                pass
            runner.rest(process.pid)
            assert select.select([process.stdout], [], [], 0)[0], "it is still at work"
        finally:
            process.kill()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_server_that_waits_for_a_core_is_not_at_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    program = "import threading, time\nuntil = time.monotonic() + 600\ndef work():\n while time.monotonic() < until: pass\n"
    with (
        subprocess.Popen([sys.executable, "-c", program + "threading.Thread(target=work).start()"]) as busy,
        subprocess.Popen([sys.executable, "-c", "import time\ntime.sleep(600)"]) as idle,
    ):
        try:
            # Its time, as far as rest can tell, stands still, as if others had all cores.
            monkeypatch.setattr(processes, "cpu_seconds", lambda pid: 0.0)
            monkeypatch.setattr(runner, "LONGEST_REST_SECONDS", 1.0)
            assert wait_until(lambda: processes.wants_cpu(busy.pid)), "it has not begun"
            began = time.monotonic()
            runner.rest(busy.pid)
            assert time.monotonic() - began >= 1
            assert wait_until(lambda: not processes.wants_cpu(idle.pid)), "it has not come to rest"
            monkeypatch.setattr(runner, "LONGEST_REST_SECONDS", 60.0)
            runner.rest(idle.pid)
            assert time.monotonic() - began < 60
        finally:
            busy.kill()
            idle.kill()


def test_memory_is_measured_without_a_trick() -> None:
    arguments = ("--rounds", "1", "--idle", "0", "--application", "hello", "--without", "gc-freeze", "--json")
    done = bench(*arguments, module="bench.tricks")
    assert done.returncode == 0, done.stderr
    weights = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["without"] for each in weights] == ["nothing", "gc-freeze"]
    assert all(0 < each["uss"][0] <= each["pss"][0] for each in weights)


def test_reloads_are_measured() -> None:
    done = bench("reload", "flask", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Flask, whose import takes \d+\.\d\d s:$", done.stdout, re.MULTILINE)
    for server in ("starman, poll", "gunicorn --reload", "flask run --reload"):
        # Another server may miss a change, for example one in the same second as the one before.
        measured = r"\d+\.\d\d" if server.startswith("starman") else r"(\d+\.\d\d|no new code within 30 s)"
        assert re.search(rf"^\| {server} \| {measured} \|", done.stdout, re.MULTILINE), done.stdout


def test_the_chart_of_the_readme_is_measured_behind_nginx(tmp_path: Path) -> None:
    find_tool("nginx")
    find_tool("wrk")
    written = tmp_path / "nginx.json"
    done = bench("flask-nginx", *TINY, "--servers", "starman,gunicorn gthread,granian", "--json", str(written))
    assert done.returncode == 0, done.stderr
    (scenario,) = json.loads(written.read_text())["scenarios"]
    cells = cells_of(scenario)
    assert {"starman", "gunicorn gthread"} <= set(cells)
    assert [cell["failure"] for cell in cells.values()] == [""] * len(cells)
    assert cells["starman"]["turns"][0]["result"]["requests"] > 0


def test_a_restart_under_load_is_recorded_and_drawn_again(tmp_path: Path) -> None:
    written, drawn, again = tmp_path / "restart.json", tmp_path / "restart.svg", tmp_path / "again.svg"
    done = bench("--json", str(written), "--svg", str(drawn), module="bench.restart")
    assert done.returncode == 0, done.stderr
    document = json.loads(written.read_text())
    assert document["failed"] == 0
    assert document["replaced"] == 2
    assert [text.split()[0] for _, text in document["typed"]] == ["sed", "kill"]
    assert ", 0 failed, the longest took " in done.stdout
    done = bench("--from", str(written), "--svg", str(again), module="bench.restart")
    assert done.returncode == 0, done.stderr
    assert again.read_bytes() == drawn.read_bytes()
