"""docs/check.py finds tests that are not there, and promises that no test holds."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
OWN = "tests/unit/test_docs_check.py"


@pytest.fixture(scope="module")
def check() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_check", REPOSITORY / "docs" / "check.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def problems(check: ModuleType, tmp_path: Path, text: str) -> list[str]:
    """What the two checks say of a page."""
    path = tmp_path / "page.md"
    path.write_text(text)
    check.read_page.cache_clear()
    page = check.read_page(path)
    return [*check.unknown_tests(page), *check.promises_without_tests(page)]


def test_tests_that_exist_are_found(check: ModuleType, tmp_path: Path) -> None:
    name = test_tests_that_exist_are_found.__name__
    assert problems(check, tmp_path, f"`{OWN}` and `{OWN}::{name}`, and `tests/unit` as a whole") == []


def test_tests_that_do_not_exist_are_found(check: ModuleType, tmp_path: Path) -> None:
    text = f"first\n`tests/unit/test_nothing.py::test_it`\n`{OWN}::test_it`\n"
    assert problems(check, tmp_path, text) == ["2: there is no tests/unit/test_nothing.py", f"3: {OWN} has no test_it"]


def test_every_promise_names_a_test(check: ModuleType, tmp_path: Path) -> None:
    rows = [f"| held | `{OWN}` |", f"| `{OWN}` is not where it belongs | by nobody |", "| not held | |"]
    text = "\n".join(["| Promise | Held by |", "|---|---|", *rows, "", "| another | table |", "|---|---|", "| of | words |"])
    assert problems(check, tmp_path, text) == ["4: no test holds this promise", "5: no test holds this promise"]


def test_the_pages_hold(check: ModuleType) -> None:
    found = [problem for path in check.page_paths() for problem in check.unknown_tests(check.read_page(path))]
    found += [problem for path in check.page_paths() for problem in check.promises_without_tests(check.read_page(path))]
    assert found == []
