"""The pure parts of the bench: statistics, targets, what wrk prints, Markdown."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from bench import log_lines, overload, report, turns, wrk
from bench.growth import AXES
from bench.progress import Progress
from bench.results import BenchError, Cell, Outcome, Result, Turn, from_structure, percentiles, ratio, to_structure
from bench.scenarios import SCENARIOS, Load
from bench.servers import SERVERS, STARMAN, STARMAN_POOL, Interpreter, Start, run_by
from bench.targets import TARGETS, Target, judge, kept, times_rate

ABOUT = {
    "implementation": "CPython",
    "python": "3.11",
    "system": "Linux",
    "cpus": 2,
    "architecture": "x86_64",
    "rounds": 2,
    "seconds": 1.0,
}


def turn(rate: float, p99: float = 2.0, **more: float) -> Turn:
    result = Result(int(rate), 1.0, 0, {50.0: 1.0, 99.0: p99, 100.0: 9.0})
    return Turn(result, cpu_seconds=0.5, memory_bytes=1_000_000, **more)


def cell(server: str, *turns: Turn, workers: int = 1, failure: str = "") -> Cell:
    return Cell(server, "1.0", workers, 4, turns, failure)


def outcome(scenario: str, *cells: Cell) -> Outcome:
    return Outcome(scenario, "a scenario", cells)


class TestResults:
    def test_percentiles_are_of_the_nearest_rank(self) -> None:
        found = percentiles([float(number) for number in range(100, 0, -1)])
        assert (found[50.0], found[99.0], found[99.9], found[100.0]) == (50.0, 99.0, 100.0, 100.0)
        assert percentiles([7.0])[50.0] == 7.0
        assert percentiles([]) == {}

    def test_a_ratio_is_the_median_of_the_ratios_of_each_round(self) -> None:
        # Of the medians it would be 2; a round in which both were slowed says the same as the others.
        ours, theirs = cell("a", turn(10), turn(100), turn(80)), cell("b", turn(5), turn(40), turn(20))
        assert ratio(ours, theirs) == 2.5

    def test_nothing_is_compared_with_a_failure_or_with_nothing(self) -> None:
        assert ratio(cell("a", turn(1)), cell("b", turn(1), failure="gone")) is None
        assert ratio(cell("a", turn(1)), cell("b", turn(0))) is None

    def test_cpu_time_is_per_good_response(self) -> None:
        assert turn(1000).cpu_per_request == 500.0
        assert Turn(Result(0, 1.0, 3, {})).cpu_per_request == -1.0

    def test_json_brings_back_what_was_measured(self) -> None:
        measured = outcome("idle", cell("a", turn(10, alone=20.0, beside_bytes=5.0)), cell("b", failure="did not start"))
        assert from_structure(json.loads(json.dumps(to_structure(measured)))) == measured

    def test_each_is_compared_with_as_many_workers(self) -> None:
        one, two, theirs = cell("a", turn(1)), cell("a", turn(2), workers=2), cell("b", turn(3), workers=2)
        measured = outcome("workers", one, two, theirs)
        assert measured.reference(theirs) is two
        assert measured.label(one) == "a, 1 worker"


class TestWrk:
    LINE = '{"requests": 10, "seconds": 2.0, "failed": 1, "refused": 2, "microseconds": {"50": 1500, "99": 2500, "100": 3000}}'

    def test_errors_are_no_responses(self) -> None:
        assert wrk.parse(f"Running 2s test\n  noise\n{self.LINE}\n") == Result(8, 2.0, 3, {50.0: 1.5, 99.0: 2.5, 100.0: 3.0})

    @pytest.mark.parametrize("text", ["", "unable to connect", '{"requests": 1}'])
    def test_other_output_is_an_error(self, text: str) -> None:
        with pytest.raises(BenchError, match=r"load\.lua"):
            wrk.parse(text)

    def test_batches_that_never_end_are_no_result(self) -> None:
        with pytest.raises(BenchError, match="never all"):
            wrk.parse(self.LINE.replace("1500", "0").replace("2500", "0").replace("3000", "0"))

    def test_seconds_are_whole(self) -> None:
        command = wrk.command("http://x/", Load(4, keep_alive=False, pipelined=16, fields=1), 0.2)
        assert command[1:7] == ["-t", "1", "-c", "4", "-d", "1s"]
        assert command[-4:] == ["http://x/", "--", "16", "0"]
        assert "Connection: close" in command
        assert sum(argument.startswith("X-Bench-") for argument in command) == 1

    def test_what_it_cannot_do(self) -> None:
        assert wrk.can(Load(pipelined=16, upload_bytes=1))
        assert not any(wrk.can(load) for load in (Load(slow_percent=5), Load(newcomers=1), Load(per_second=9), Load(whole=True)))


class TestTargets:
    def test_the_best_peer_is_that_of_each_round(self) -> None:
        measured = outcome("x", cell("us", turn(10), turn(10)), cell("a", turn(5), turn(20)), cell("b", turn(20), turn(5)))
        assert times_rate(measured, ("a", "b")) == 0.5

    def test_a_target_is_met_or_missed_by_a_share_of_the_aim(self) -> None:
        measured = outcome("x", cell("us", turn(90, p99=4.0)), cell("a", turn(100)))
        targets = (Target("x", "", times_rate, 0.75, ("a",)), Target("x", "", times_rate, 0.8, ("a",), at_most=True))
        met, missed = judge([measured], targets)
        assert met.met
        assert met.by == pytest.approx(0.2)
        assert not missed.met
        assert missed.by == pytest.approx(-0.125)

    def test_what_was_not_measured_says_why(self) -> None:
        measured = outcome("x", cell("us", turn(90)), cell("a", failure="did not start"))
        first, second = judge([measured], [Target("x", "", times_rate, 1.0, (peer,)) for peer in ("a", "b")])
        assert (first.measured, first.why) == (None, "a: did not start")
        assert second.why == "b was not measured"

    def test_what_starman_compiled_has_is_beside_it(self) -> None:
        cells = (cell("starman", turn(90)), cell("granian", turn(100)), cell("starman, compiled", turn(120)))
        measured = outcome("hello", *cells)
        (verdict,) = judge([measured], [Target("hello", "rate", times_rate, 1.0, ("granian",))])
        assert (verdict.measured, verdict.compiled, verdict.met) == (0.9, 1.2, False)
        text = report.markdown(ABOUT, [measured])
        assert "| hello | rate by that of granian | at least 1 | 0.90 | **missed by 10%** | 1.20 | met |" in text

    @pytest.mark.parametrize(
        ("rate", "said"), [(90, "**missed by 10%**"), (99, "**missed by 1%**"), (99.6, "**missed by 0.4%**")]
    )
    def test_how_far_it_is_missed(self, rate: float, said: str) -> None:
        cells = (cell("starman", Turn(Result(int(rate * 10), 10.0, 0, {}))), cell("granian", turn(100)))
        assert said in report.targets_table(judge([outcome("hello", *cells)]))

    def test_only_scenarios_that_were_measured_are_judged(self) -> None:
        assert judge([]) == []

    def test_what_is_kept_beside_others(self) -> None:
        assert kept(outcome("idle", cell("us", turn(90, alone=100.0))), ()) == 0.9

    @pytest.mark.parametrize("target", TARGETS, ids=lambda target: f"{target.scenario}: {target.text}")
    def test_each_is_judged_when_all_are_measured(self, target: Target) -> None:
        scenario = SCENARIOS[target.scenario]
        cells = [
            cell(server.name, turn(100, alone=100.0, beside_bytes=10.0), workers=workers)
            for server in scenario.servers
            for workers in scenario.workers
        ]
        (verdict,) = judge([outcome(target.scenario, *cells)], [target])
        assert verdict.measured is not None


class TestReport:
    def test_markdown_shows_ratios_failures_and_targets(self) -> None:
        cells = (cell("starman", turn(1000)), cell("granian", turn(500)), cell("bjoern", failure="a | b"))
        text = report.markdown(ABOUT, [outcome("hello", *cells), outcome("hello-1", *cells)])
        assert "| hello | rate by that of granian | at least 1 | 2.00 | met |" in text
        assert "not measured: bjoern: a \\| b" in text
        assert "| hello-1 | 1,000 | 2.00 | no result |" in text
        assert "| bjoern 1.0 | no result: a \\| b |" in text
        tables = [line.count(" | ") for line in text.splitlines() if line.startswith(("| bjoern", "| granian"))]
        assert len(set(tables)) == 1

    def test_text_is_put_between_markers(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n")
        report.put(page, "bench", "new")
        report.put(page, "bench", "newer")
        assert page.read_text() == "before\n<!-- bench -->\nnewer\n<!-- /bench -->\nafter\n"

    def test_a_new_page_is_all_of_it(self, tmp_path: Path) -> None:
        report.put(tmp_path / "new" / "page.md", "bench", "text")
        assert (tmp_path / "new" / "page.md").read_text() == "<!-- bench -->\ntext\n<!-- /bench -->\n"

    def test_a_page_without_markers_is_left_alone(self, tmp_path: Path) -> None:
        page = tmp_path / "page.md"
        page.write_text("mine")
        with pytest.raises(BenchError, match="<!-- bench -->"):
            report.put(page, "bench", "text")
        assert page.read_text() == "mine"

    def test_json_has_no_nan(self, tmp_path: Path) -> None:
        report.write_json(tmp_path / "it.json", {"a": [float("nan")]})
        assert json.loads((tmp_path / "it.json").read_text()) == {"a": [None]}

    def test_a_file_of_something_else_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "it.json").write_text("{}")
        with pytest.raises(BenchError, match=r"it\.json"):
            report.read(tmp_path / "it.json")


class TestTurns:
    BOTH = (Interpreter("/a/python", "3.11"), Interpreter("/b/python", "3.13"))

    def test_each_interpreter_has_its_pool_beside_it(self) -> None:
        loaded, mixed = turns.scenarios("flask", self.BOTH)
        names = [server.name for server in loaded.servers]
        assert names == ["starman, plain pool, 3.11", "starman, 3.11", "starman, plain pool, 3.13", "starman, 3.13"]
        assert (mixed.servers, wrk.can(loaded.load), wrk.can(mixed.load)) == (loaded.servers, True, False)

    def test_a_server_is_run_by_another_interpreter(self) -> None:
        start = Start("module:name", 12345, 1, 4)
        for server in (STARMAN, STARMAN_POOL):
            command = run_by(server, self.BOTH[0]).command(start)
            assert "/a/python" in command
            assert sys.executable not in command
            assert len(command) == len(server.command(start))

    def test_markdown_compares_each_with_its_pool(self) -> None:
        pool, ours = "starman, plain pool, 3.13", "starman, 3.13"
        fair = Turn(Result(9, 1.0, 0, {99.0: 1.0}, new={99.0: 7.0}, least=0.9))
        loaded = outcome("flask", cell(pool, turn(100, p99=4.0)), cell(ours, turn(200, p99=3.0)))
        mixed = outcome("flask", cell(pool, failure="it ended"), cell(ours, fair))
        rows = turns.markdown(ABOUT, [turns.Compared("flask", loaded, mixed)]).splitlines()[-2:]
        assert rows == [
            "| flask | 3.13 | plain pool | 100 |  | 1.00 | 4.00 |  | 9.00 |  |  |",
            "| flask | 3.13 | turns | 200 | 2.00 | 1.00 | 3.00 | 0.75 | 9.00 | 7.00 | 0.90 |",
        ]

    def test_markdown_says_why_there_is_no_result(self) -> None:
        measured = outcome("flask", cell("starman, plain pool, 3.13", failure="it ended"), cell("starman, 3.13", turn(1)))
        text = turns.markdown(ABOUT, [turns.Compared("flask", measured, measured)])
        assert "| flask | 3.13 | plain pool | no result: it ended |" in text


class TestTables:
    @pytest.mark.parametrize("server", SERVERS.values(), ids=lambda server: server.name)
    def test_a_command_has_what_it_starts(self, server: object) -> None:
        command = server.command(Start("module:name", 12345, 2, 4, psgi="x.psgi"))  # type: ignore[attr-defined]
        assert "12345" in " ".join(command)
        assert not [argument for argument in command if "{scratch}" in argument or "{threads}" in argument or "{{" in argument]

    def test_servers_have_colours_of_their_own(self) -> None:
        assert len({server.colour for server in SERVERS.values()}) == len(SERVERS)

    def test_scenarios_and_targets_know_their_servers(self) -> None:
        for scenario in SCENARIOS.values():
            assert all(SERVERS.get(server.name) is server for server in scenario.servers), scenario.name
        for target in TARGETS:
            assert set(target.peers) <= {server.name for server in SCENARIOS[target.scenario].servers}, target

    def test_each_point_of_an_axis_is_a_scenario(self) -> None:
        for axis in AXES.values():
            assert len({axis.scenario(axis.name, "", point) for point in axis.points}) == len(axis.points)


def test_the_table_of_an_overload_has_medians_and_shares() -> None:
    rounds = [
        overload.Round([0.1] * 99 + [0.9], refused=300, given_up=0),
        overload.Round([0.2] * 200, refused=150, given_up=50),
        overload.Round([], refused=0, given_up=400),
    ]
    assert [each.p99() for each in rounds] == [0.1, 0.2, float("inf")]
    (_, _, row) = overload.markdown({"a server": rounds}, 2.0).splitlines()
    assert [cell.strip() for cell in row.strip("|").split("|")] == ["a server", "50", "0.20", "38", "12"]


def test_progress_without_a_terminal_is_a_line_for_each_step() -> None:
    stream = io.StringIO()
    progress = Progress(2, stream)
    progress.step("one")
    progress.note("by the way")
    progress.step("two")
    progress.end()
    assert stream.getvalue() == "1 of 2: one\nby the way\n2 of 2: two\n"


class TestLogLines:
    def test_every_format_has_a_figure(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        monkeypatch.setattr(log_lines, "LINES", 2)
        monkeypatch.setattr(log_lines.microseconds, "__defaults__", (1,))
        assert log_lines.main() == 0
        rows = [row.split(" | ")[0].removeprefix("| ") for row in capsys.readouterr().out.splitlines()[2:]]
        assert rows == [*log_lines.FORMATS, "json, skipped"]
