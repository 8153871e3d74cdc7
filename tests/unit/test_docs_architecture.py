"""The table of modules in docs/architecture.md is up to date with the docstrings of the modules."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.docs_scripts import import_docs_script


@pytest.fixture(scope="module")
def build() -> ModuleType:
    return import_docs_script("build")


def test_the_table_of_modules_is_up_to_date(build: ModuleType) -> None:
    assert build.ARCHITECTURE_PAGE.read_text("utf-8") == build.architecture_page(), "run: make docs"


def test_every_folder_says_where_its_modules_run(build: ModuleType) -> None:
    folders = {path.parent.relative_to(build.PACKAGE) for path in build.PACKAGE.rglob("*.py")}
    assert {str(folder).removeprefix(".") for folder in folders} == build.FOLDERS.keys()


@pytest.mark.parametrize(
    ("source", "summary"),
    [
        ('"""Writes the log. Never waits."""', "Writes the log."),
        ('"""Writes\nthe log.\n\nNever waits.\n"""', "Writes the log."),
        ('"""a | b"""', "a \\| b."),
        ("", ""),
    ],
)
def test_the_summary_is_the_first_sentence(build: ModuleType, tmp_path: Path, source: str, summary: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(source)
    assert build.summary(path) == summary
