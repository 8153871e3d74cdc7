"""docs/check.py finds tests that do not exist, promises without a test, wide lines, and words that speak of code as of
people."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.unit.docs_scripts import import_docs_script

REPOSITORY = Path(__file__).resolve().parents[2]
OWN = "tests/unit/test_docs_check.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    return import_docs_script("check")


def page_of(check: ModuleType, tmp_path: Path, text: str) -> Any:
    path = tmp_path / "page.md"
    path.write_text(text)
    check.read_page.cache_clear()
    return check.read_page(path)


def problems(check: ModuleType, tmp_path: Path, text: str) -> list[str]:
    """What the checks of tests and of promises report for a page."""
    page = page_of(check, tmp_path, text)
    return [*check.unknown_tests(page), *check.promises_without_tests(page)]


def test_tests_that_exist_are_found(check: ModuleType, tmp_path: Path) -> None:
    name = test_tests_that_exist_are_found.__name__
    assert problems(check, tmp_path, f"`{OWN}` and `{OWN}::{name}`, and `tests/unit` as a whole") == []


def test_tests_that_do_not_exist_are_found(check: ModuleType, tmp_path: Path) -> None:
    text = f"first\n`tests/unit/test_nothing.py::test_it`\n`{OWN}::test_it`\n"
    assert problems(check, tmp_path, text) == ["2: tests/unit/test_nothing.py does not exist", f"3: {OWN} has no test_it"]


def test_targets_of_make_that_do_not_exist_are_found(check: ModuleType, tmp_path: Path) -> None:
    text = (
        "`make test`, `PORT=8000 make serve`, `make`, `make NAME=1`\n`make tests`\n```sh\nmake benches\nmake bench # all\n```\n"
    )
    found = list(check.unknown_targets(page_of(check, tmp_path, text)))
    assert found == ["2: make has no target tests", "4: make has no target benches"]


def test_modules_that_do_not_exist_are_found(check: ModuleType, tmp_path: Path) -> None:
    good = "`serving/exchange.py`, `starman/wsgi/call.py`, `app/serving/x.py`, `wsgi.py`, `log/`"
    text = f"{good}\n`serving/nothing.py`\n`serving/gone/`\n"
    found = list(check.unknown_modules(page_of(check, tmp_path, text)))
    assert found == ["2: starman/serving/nothing.py does not exist", "3: starman/serving/gone/ does not exist"]


def test_the_table_of_modules_is_complete(check: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(check.unlisted_modules()) == []
    page = check.ARCHITECTURE_PAGE.read_text().replace("| `pidfile.py` |", "| `pid.py` |")
    monkeypatch.setattr(check, "ARCHITECTURE_PAGE", tmp_path / "architecture.md")
    check.ARCHITECTURE_PAGE.write_text(page)
    names = [problem.partition("(")[2].partition(")")[0] for problem in check.unlisted_modules()]
    assert names == ["starman/process/host/pid.py", "starman/process/host/pidfile.py"]


def test_every_promise_names_a_test(check: ModuleType, tmp_path: Path) -> None:
    rows = [f"| held | `{OWN}` |", f"| `{OWN}` is in the wrong column | by no test |", "| not held | |"]
    text = "\n".join(["| Promise | Held by |", "|---|---|", *rows, "", "| another | table |", "|---|---|", "| of | words |"])
    assert problems(check, tmp_path, text) == ["4: no test holds this promise", "5: no test holds this promise"]


def test_prose_is_narrow(check: ModuleType, tmp_path: Path) -> None:
    wide = "a" * 60 + " " + "b" * 60
    text = f"{wide[:119]}\n{wide}\n| {wide} |\n```\n{wide}\n```\n- {'a' * 130}\n<!-- x -->\n{wide}\n<!-- /x -->\n{wide}\n"
    assert list(check.long_lines(page_of(check, tmp_path, text))) == [
        "2: 121 columns; prose is narrower than 120",
        "11: 121 columns; prose is narrower than 120",
    ]


def test_comments_and_docstrings_explain(check: ModuleType) -> None:
    lines = [
        '"""Module."""',
        'X = "no # docstring"  # comment',
        "class C:",
        '    """Class."""',
        "    async def f(self):",
        '        """Method."""',
    ]
    assert [text for text in check.explanations("\n".join(lines)) if text] == ["# comment", "Module.", "Class.", "Method."]


@pytest.mark.parametrize(
    ("texts", "figure"),
    [
        (["The loop wakes the thread."], 0.0),
        (["Somebody writes.", "WHO reads what"], 400.0),
        (["whose, whoever; anyone's"], 1000.0),
        (["Code like test_who_left and whole words are no people"], 0.0),
        ([], 0.0),
    ],
)
def test_words_for_people_are_counted(check: ModuleType, texts: list[str], figure: float) -> None:
    assert check.people_per_thousand(texts) == figure


def test_code_spans_do_not_count(check: ModuleType, tmp_path: Path) -> None:
    page = page_of(check, tmp_path, "`Whoever` is a name.\n```\nwho\n```\n")
    assert check.people_in_pages([page]) == 0.0


def test_a_figure_above_its_limit_is_a_problem(check: ModuleType) -> None:
    found = list(check.too_many_people({"code": 0.5, "pages": 0.51}, {"code": 0.5, "pages": 0.5}))
    assert found == ["pages: 0.51 of 1,000 words speak of code as of people (limit 0.5)"]


def test_the_pages_hold(check: ModuleType) -> None:
    found = [problem for path in check.page_paths() for problem in check.unknown_tests(check.read_page(path))]
    found += [problem for path in check.page_paths() for problem in check.promises_without_tests(check.read_page(path))]
    assert found == []
