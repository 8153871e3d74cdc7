"""The rules between the rooms of docs/design.md hold: who imports whom, where locks are, what the master loads.

The source is read, not run, so that an import inside a function counts as well, and one for type checkers too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "starman"
MODULES = sorted(str(path.relative_to(REPOSITORY)) for path in PACKAGE.rglob("*.py"))

# From the bottom. A module imports from its own room and from those before it.
ROOMS = {
    "ground": {
        *("addresses", "appfork", "closing", "cpus", "debugging", "declaration", "errors", "hooks", "inflight", "log"),
        *("logqueue", "output", "revision", "service_links", "settings", "standard", "table", "temporary", "tracebacks"),
        *("threadio", "values", "version", "workdir"),
    },
    "proto": {"proto"},
    "wsgi": {"wsgi"},
    "serving": {"serving"},
    "process": {"process"},
    "top": {
        *("", "__main__", "applicationcheck", "check", "cli", "discovery", "embedding", "loading"),
        *("server", "sources", "takeover"),
    },
}
ORDER = list(ROOMS)

FORBIDDEN = {
    "ground": {"anyio", "asyncio", "httptools", "logging", "uvloop"},
    "proto": {"asyncio", "logging", "os", "socket", "threading", "time", "anyio", "uvloop", "starman.settings", "starman.log"},
    "wsgi": {"asyncio", "anyio", "uvloop"},
    "serving": {"signal", "multiprocessing", "subprocess"},
    "process": {"httptools", "starman.proto"},
    "top": set(),
}

# The mold imports what its workers will share in memory, and uses nothing of it.
ALLOWED = {("starman/process/blueprint.py", "httptools")}

# Hazard 11: both sides of a hand-off take the connection's lock, which is only surveyable while locks are in few places.
LOCKS = {"Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier", "allocate_lock"}
# `call_loop` is the name under which the door to the loop, `Pool.post`, is handed to those who may use it.
CROSS_THREAD_CALLS = {"call_soon_threadsafe", "run_coroutine_threadsafe", "call_loop", "_call_loop"}
LOCK_FILES = {
    "starman/logqueue.py",
    "starman/serving/accesslog.py",
    "starman/serving/bodystream.py",
    "starman/serving/inline.py",
    "starman/serving/outbox.py",
    "starman/serving/pool.py",
    "starman/serving/rawsocket.py",
    "starman/serving/responsememory.py",
    "starman/serving/sleeper.py",
    "starman/serving/writer.py",
    "starman/wsgi/spoolspace.py",
}

MASTER_MODULES = ("starman.cli", "starman.sources", "starman.settings", "starman.process.master")
TOO_LARGE_FOR_THE_MASTER = {
    *("anyio", "argparse", "asyncio", "concurrent", "dataclasses", "difflib", "httptools", "inspect", "logging"),
    *("multiprocessing", "subprocess", "tempfile", "threading", "tomllib", "traceback", "typing", "urllib", "uvloop"),
    *("starman.proto", "starman.serving", "starman.wsgi"),
}

LONGEST_FILE = 350
LONGEST_FUNCTION = 60
MOST_PARAMETERS = 6


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse((REPOSITORY / module).read_text("utf-8"), module)


def room_of(name: str) -> str:
    """The room of a dotted name: of `starman.proto.syntax` it is proto, of `starman` itself top."""
    part = [*name.split("."), ""][1]
    for room, names in ROOMS.items():
        if part in names:
            return room
    raise AssertionError(f"{name} is in no room of this table and of docs/design.md")


def dotted(module: str) -> str:
    """starman/proto/syntax.py is starman.proto.syntax."""
    return module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")


def is_module(name: str) -> bool:
    path = REPOSITORY / name.replace(".", "/")
    return path.is_dir() or path.with_suffix(".py").exists()


def imports_of(module: str) -> Iterator[tuple[int, str]]:
    """Line and dotted name of everything that a module imports, wherever in it."""
    package = dotted(module) if module.endswith("__init__.py") else dotted(module).rpartition(".")[0]
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*above, *([base] if base else [])])
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield node.lineno, name if base.startswith("starman") and is_module(name) else base


def begins_with(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    own = ORDER.index(room_of(dotted(module)))
    upward = [
        f"{module}:{line} imports {name}"
        for line, name in imports_of(module)
        if begins_with(name, "starman") and ORDER.index(room_of(name)) > own
    ]
    assert upward == []


@pytest.mark.parametrize("module", MODULES)
def test_rooms_do_without_what_they_never_import(module: str) -> None:
    forbidden = FORBIDDEN[room_of(dotted(module))]
    found = [
        f"{module}:{line} imports {name}"
        for line, name in imports_of(module)
        if any(begins_with(name, banned) for banned in forbidden) and (module, name) not in ALLOWED
    ]
    assert found == []


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(dotted(module)) in ("proto", "wsgi", "serving")])
def test_only_process_forks(module: str) -> None:
    names = {node.attr for node in ast.walk(tree_of(module)) if isinstance(node, ast.Attribute)}
    assert not names & {"fork", "forkpty", "posix_spawn", "add_signal_handler", "pthread_sigmask", "set_wakeup_fd"}


@pytest.mark.parametrize("module", [module for module in MODULES if module not in LOCK_FILES])
def test_hazard_11_locks_and_cross_thread_calls_have_their_files(module: str) -> None:
    found = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("threading", "_thread"):
            found += [f"{module}:{node.lineno} {node.attr}"] if node.attr in LOCKS else []
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in CROSS_THREAD_CALLS:
            found.append(f"{module}:{node.lineno} {node.func.attr}")
        elif isinstance(node, ast.ImportFrom) and node.module in ("threading", "_thread"):
            found += [f"{module}:{node.lineno} {alias.name}" for alias in node.names if alias.name in LOCKS]
    assert found == []


@pytest.mark.parametrize("module", MASTER_MODULES)
def test_the_master_loads_nothing_large(module: str) -> None:
    """Without site (-S), so that only what starman imports is counted, and no third party can be."""
    script = f"import sys; sys.path.insert(0, {str(REPOSITORY)!r}); import {module}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-S", "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    loaded = [name for name in done.stdout.split() if any(begins_with(name, large) for large in TOO_LARGE_FOR_THE_MASTER)]
    assert loaded == []


# The measures of the house style


@pytest.mark.parametrize("module", MODULES)
def test_a_module_says_its_responsibility_and_stays_small(module: str) -> None:
    source = (REPOSITORY / module).read_text("utf-8")
    assert not source.strip() or ast.get_docstring(tree_of(module)), f"{module} has no docstring"
    assert source.count("\n") <= LONGEST_FILE


@pytest.mark.parametrize("module", MODULES)
def test_functions_stay_small(module: str) -> None:
    found = []
    for node in ast.walk(tree_of(module)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            parameters = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
            count = len([parameter for parameter in parameters if parameter.arg not in ("self", "cls")])
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if count > MOST_PARAMETERS or lines > LONGEST_FUNCTION:
                found.append(f"{module}:{node.lineno} {node.name}: {lines} lines, {count} parameters")
    assert found == []
