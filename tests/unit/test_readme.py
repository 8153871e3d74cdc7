"""README, CONTRIBUTING, SECURITY and the issue form say what is so: figures, pictures, folders, commands."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import yaml

from bench import readme, report, restart, terminal
from starman.commands.command_line import command_flags
from starman.config.sources import flags

REPOSITORY = Path(__file__).resolve().parents[2]
FIGURES = REPOSITORY / "docs" / "bench"
README = (REPOSITORY / "README.md").read_text("utf-8")
CONTRIBUTING = (REPOSITORY / "CONTRIBUTING.md").read_text("utf-8")

# The rows of what only starman does: the file that shows it, and the test or the heading in it.
SHOWN_BY = {
    "A restart with broken": (
        "tests/functional/test_processes.py",
        "def test_hup_with_broken_code_leaves_the_old_workers_alone(",
    ),
    "Preloaded applications": ("tests/functional/test_processes.py", "def test_hup_serves_changed_code_from_new_workers_under"),
    "A request that hangs": ("tests/functional/test_request_timeout.py", "def test_whatever_hangs_is_answered_with_504("),
    "[Load shedding]": ("docs/performance.md", "## Twice the capacity"),
    "`starman-uv stacks`": (
        "tests/functional/test_stacks_command.py",
        "def test_stacks_shows_a_lock_and_a_busy_loop_within_a_second(",
    ),
    "`starman-uv trace`": ("tests/functional/test_trace_command.py", "def test_requests_are_shown_as_they_finish("),
    "A worker that is killed": (
        "tests/functional/test_recycling.py",
        "def test_a_killed_worker_leaves_the_names_of_its_requests(",
    ),
    "Slow readers and slow": (
        "tests/functional/test_slow_readers.py",
        "def test_finished_responses_hold_no_thread_and_little_memory(",
    ),
}


def recorded() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((FIGURES / "restart.json").read_text("utf-8"))
    return document


def between_markers(text: str) -> str:
    return text.partition("<!-- readme -->\n")[2].partition("\n<!-- /readme -->")[0]


def test_the_ratios_and_the_chart_are_those_of_the_figures() -> None:
    about, outcomes = report.read(FIGURES / "readme.json")
    assert between_markers(README) == readme.sentence(outcomes)
    assert (FIGURES / readme.CHART).read_text("utf-8") == readme.chart(about, outcomes)


def test_the_tables_of_the_performance_page_are_those_of_the_figures() -> None:
    assert readme.tables(*report.read(FIGURES / "readme.json")) in (REPOSITORY / "docs/performance.md").read_text("utf-8")


def test_the_chart_shows_every_figure() -> None:
    about, outcomes = report.read(FIGURES / "readme.json")
    texts = {element.text for element in ElementTree.fromstring(readme.chart(about, outcomes)).iter()}
    for outcome in outcomes:
        for name in readme.SHOWN:
            cell = outcome.find(name)
            assert cell is not None
            assert {f"{cell.rate:,.0f}", f"{cell.latency(99.0):.1f}"} <= texts


def test_goodput_at_twice_the_load_is_that_of_the_figures() -> None:
    servers = json.loads((FIGURES / "overload.json").read_text("utf-8"))["servers"]
    found = re.search(r"(\d+) useful responses a second at twice the load, gunicorn (\d+), granian (\d+)", README)
    assert found is not None
    names = ("starman, queue_timeout 0.5", "gunicorn gthread", "granian")
    assert [int(each) for each in found.groups()] == [round(servers[name]["goodput"]) for name in names]


def test_the_recording_is_drawn_from_a_run_in_which_nothing_failed() -> None:
    document = recorded()
    assert (FIGURES / "restart.svg").read_text("utf-8") == terminal.draw(restart.recording(document))
    assert document["failed"] == 0
    assert document["replaced"] >= 2
    assert all(moment["old"] + moment["new"] for moment in document["moments"])


def test_the_picture_of_the_recording_ends_with_all_that_was_recorded() -> None:
    """Without motion, a reader sees the lines, a bar for each moment, and the last counter only."""
    document = recorded()
    text = terminal.draw(restart.recording(document))
    root = ElementTree.fromstring(text)
    shown = [element for element in root.iter() if "moving" not in element.get("class", "")]
    words = "\n".join("".join(element.itertext()) for element in shown if element.tag.endswith("text"))
    answered = sum(moment["old"] + moment["new"] for moment in document["moments"])
    assert f"{answered:,} responses" in words
    assert words.count("0 failed") == 1
    assert all(line in words for _, line in document["typed"])
    assert len([element for element in root if element.tag.endswith("g")]) == len(document["moments"])
    assert "http" not in text.replace("http://www.w3.org/", "").replace(document["ready"].rpartition(" ")[2], "")


def test_a_failed_request_would_be_seen() -> None:
    document = recorded()
    document["moments"][5]["failed"] = 3
    drawn = terminal.draw(restart.recording(document))
    assert '<rect class="failed"' in drawn
    assert "3 failed" in drawn


def test_each_row_of_what_only_starman_does_is_shown_by_a_test_or_a_figure() -> None:
    table = README.partition("| What | Shown by |\n|---|---|\n")[2].partition("\n\n")[0]
    rows = [row.strip("| ").rpartition(" | ") for row in table.splitlines()]
    assert len(rows) == len(SHOWN_BY)
    for (what, _, shown_by), (begins, (path, name)) in zip(rows, SHOWN_BY.items(), strict=True):
        assert what.startswith(f"**{begins}")
        assert f"]({path}" in shown_by
        assert name in (REPOSITORY / path).read_text("utf-8")


def test_the_readme_names_make_serve_and_make_test_first() -> None:
    assert re.findall(r"^make [a-z-]+", README, re.MULTILINE)[:2] == ["make serve", "make test"]
    assert re.findall(r"^make [a-z-]+", CONTRIBUTING, re.MULTILINE)[:2] == ["make serve", "make test"]


def test_the_folders_of_contributing_exist() -> None:
    folders = re.findall(r"`([\w./]+/)`", CONTRIBUTING)
    assert len(folders) >= 8
    assert [folder for folder in folders if not (REPOSITORY / folder).is_dir()] == []
    files = re.findall(r"`([\w/]+\.(?:py|md))`", CONTRIBUTING)
    assert [file for file in files if not (REPOSITORY / file).is_file()] == []


def test_the_issue_form_asks_for_the_report() -> None:
    text = (REPOSITORY / ".github/ISSUE_TEMPLATE/bug.yml").read_text("utf-8")
    form = yaml.safe_load(text)
    assert {"name", "description", "body"} <= set(form)
    questions = {question["id"]: question for question in form["body"] if question["type"] != "markdown"}
    assert "starman-uv report" in questions["report"]["attributes"]["description"]
    assert questions["report"]["validations"]["required"]
    assert all(question["attributes"]["label"] for question in questions.values())
    options = re.findall(r"starman-uv[^`\n]*?(--[a-z-]+)", text)
    assert set(options) <= set(flags()) | set(command_flags())


def test_the_policy_asks_for_a_private_report() -> None:
    text = (REPOSITORY / "SECURITY.md").read_text("utf-8")
    assert "Report a vulnerability" in text
    assert "@" not in text
