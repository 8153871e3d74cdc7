"""The modules that a compiled build compiles (setup.py) are there, and plain Python inherits from none of them.

mypyc makes native classes of theirs, which an interpreted class cannot have for a base: that would fail where it is
first imported, perhaps in the middle of a request. Source that mypyc cannot compile fails
tests/functional/test_compiled.py.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def compiled_modules() -> tuple[str, ...]:
    """MODULES of setup.py, which is read, for running it is building."""
    for node in ast.parse((REPOSITORY / "setup.py").read_text("utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "MODULES":
            modules: tuple[str, ...] = ast.literal_eval(node.value)
            return modules
    raise AssertionError("setup.py has no MODULES")


COMPILED = compiled_modules()
PLAIN = [path for path in sorted((REPOSITORY / "starman").rglob("*.py")) if str(path.relative_to(REPOSITORY)) not in COMPILED]


def test_every_one_is_there_once_and_in_order() -> None:
    assert [module for module in COMPILED if not (REPOSITORY / module).is_file()] == []
    assert list(COMPILED) == sorted(set(COMPILED))


@pytest.mark.parametrize("path", PLAIN, ids=[str(path.relative_to(REPOSITORY)) for path in PLAIN])
def test_plain_python_inherits_from_none_of_them(path: Path) -> None:
    tree = ast.parse(path.read_text("utf-8"))
    names = {module.removesuffix(".py").replace("/", ".") for module in COMPILED}
    native = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module in names
        for alias in node.names
    }
    bases = [base for node in ast.walk(tree) if isinstance(node, ast.ClassDef) for base in node.bases]
    assert [base.id for base in bases if isinstance(base, ast.Name) and base.id in native] == []


@pytest.mark.parametrize("path", COMPILED)
def test_their_constants_are_final(path: str) -> None:
    """Where they are compiled, a Final is a variable of C; anything else is looked up in a dict, fifty times a
    request."""
    left = []
    for node in ast.parse((REPOSITORY / path).read_text("utf-8")).body:
        if isinstance(node, ast.Assign):
            targets = [name for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        elif isinstance(node, ast.AnnAssign) and not ast.unparse(node.annotation).startswith("Final"):
            targets = [node.target] if isinstance(node.target, ast.Name) else []
        else:
            continue
        left += [name.id for name in targets if not name.id[0].isupper() or name.id.isupper()]  # those of types are neither
    assert left == []
