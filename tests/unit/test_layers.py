"""The rules between the folders of docs/architecture.md hold: which way imports go, where locks are, what the master
loads.

The source is read, not run, so that an import inside a function counts as well, and one for type checkers too.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "starman"
MODULES = sorted(str(path.relative_to(REPOSITORY)) for path in PACKAGE.rglob("*.py"))

# From the bottom. Every module belongs to the entry with the longest matching name, and imports only from its own
# entry and those before it. Inside an entry, no modules import each other in a circle.
LAYERS = (
    *("starman.errors", "starman.version", "starman.foreign_distribution"),
    *("starman.log", "starman.log.captured", "starman.background", "starman.standard_streams", "starman.thread_io"),
    *("starman.debugging", "starman.application_forks", "starman.hooks"),
    "starman.config",
    "starman.proto",
    "starman.wsgi",
    # Parts of serving/ that know nothing of connections
    *("starman.serving", "starman.serving.dates", "starman.serving.monitor", "starman.serving.blocking_jobs"),
    *("starman.serving.connections", "starman.serving.connections.clients"),
    *(
        "starman.serving.connections.progress",
        "starman.serving.metrics.refusal_counts",
        "starman.serving.refusallog",
        "starman.serving.resource_shortage",
        "starman.serving.load_shedding",
        "starman.serving.access_log",
    ),
    *("starman.serving.executors.queued_request", "starman.serving.metrics.request_counts"),
    "starman.serving.sending",
    *("starman.serving.executors.pool_thread", "starman.serving.executors.interruption"),
    *("starman.serving.executors.lost_threads", "starman.serving.executors.executor"),
    *(
        "starman.serving.context",
        "starman.serving.connections.lingering",
        "starman.serving.connections.disconnection",
        "starman.serving.gunicorn_socket",
    ),
    *("starman.serving.exchange_body", "starman.serving.response_sender", "starman.serving.exchange"),
    "starman.serving.executors",
    "starman.serving.body",
    *("starman.serving.connections.closing", "starman.serving.connections.timeouts", "starman.serving.connections.connection"),
    *("starman.serving.tls", "starman.serving.accepting", "starman.serving.health"),
    *(
        "starman.serving.application_child",
        "starman.serving.drain",
        "starman.serving.metrics",
        "starman.serving.warmup",
        "starman.serving.rehearsal",
        "starman.serving.request_hooks",
        "starman.serving.request_trace",
        "starman.serving.service",
    ),
    *(
        "starman.process",
        "starman.process.value_class",
        "starman.process.message_base",
        "starman.process.observer_messages",
        "starman.process.status",
        "starman.process.messages",
        "starman.process.channel",
    ),
    *("starman.process.handover", "starman.process.long_messages", "starman.process.metrics_memory"),
    *("starman.process.scoreboard", "starman.process.proc_stat"),
    *("starman.process.prctl", "starman.process.own_descriptors"),
    *("starman.process.parent_death", "starman.process.forking", "starman.process.proctitle", "starman.process.exiting"),
    "starman.process.host",
    "starman.process.watching",
    "starman.process.worker_spec",
    "starman.process.worker",
    "starman.process.supervision",
    "starman.process.master",
    *("starman.observer", "starman.commands"),
    *("starman.application_check", "starman.application_environment", "starman.discovery", "starman.loading"),
    "starman.embedding",
    *("starman.server", "starman.takeover", "starman.gunicorn"),
    *("starman.check", "starman.cli", "starman.__main__", "starman"),
)

# What must not be imported, by name of the package.
NEVER = {
    "starman.proto": {
        *("asyncio", "logging", "os", "socket", "threading", "time", "anyio", "uvloop"),
        *("starman.config", "starman.log"),
    },
    "starman.wsgi": {"asyncio", "anyio", "uvloop"},
    "starman.serving": {"signal", "multiprocessing", "subprocess"},
    "starman.process": {"httptools", "starman.proto"},
    "starman.log": {"asyncio", "anyio", "uvloop"},
    "starman.config": {"asyncio", "anyio", "uvloop"},
}

# Imports that still go up, and modules that import each other in a circle: to be opened.
UPWARD: dict[str, set[str]] = {}
CIRCULAR: set[str] = set()

# The mold imports what its workers will share in memory, and uses nothing of it.
ALLOWED = {("starman/process/worker/shared_imports.py", "httptools")}

# Hazard 11: both sides of a hand-off take the connection's lock, which is only surveyable while locks are in few
# places.
LOCKS = {"Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore", "Barrier", "allocate_lock"}
# `call_loop` is the name under which the door to the loop, `Pool.post`, is handed to code that may use it.
CROSS_THREAD_CALLS = {"call_soon_threadsafe", "run_coroutine_threadsafe", "call_loop", "_call_loop"}
LOCK_FILES = {
    "starman/log/captured.py",
    "starman/log/queue.py",
    "starman/observer/admin_server.py",
    "starman/serving/access_log/access_log.py",
    "starman/serving/body/stream.py",
    "starman/serving/executors/inline.py",
    "starman/serving/executors/pool.py",
    "starman/serving/gunicorn_socket/rawsocket.py",
    "starman/serving/sending/corking.py",
    "starman/serving/sending/response_memory.py",
    "starman/serving/executors/pool_thread.py",
    "starman/serving/sending/expiry.py",
    "starman/serving/sending/writer.py",
    "starman/wsgi/spool_space.py",
}

MASTER_MODULES = ("starman.cli", "starman.config.sources", "starman.config.settings", "starman.process.master.master")
TOO_LARGE_FOR_THE_MASTER = {
    *("anyio", "argparse", "asyncio", "concurrent", "dataclasses", "difflib", "httptools", "inspect", "logging"),
    *("multiprocessing", "subprocess", "tempfile", "threading", "tomllib", "traceback", "typing", "urllib", "uvloop"),
    *("starman.proto", "starman.serving", "starman.wsgi"),
    # Only with the settings that need them
    *("starman.gunicorn", "starman.log.captured", "starman.log.syslog", "starman.process.watching"),
}

MOST_FILES = 20  # of one folder
LONGEST_FILE = 365
LONGEST_FUNCTION = 60
MOST_PARAMETERS = 6


@cache
def tree_of(module: str) -> ast.Module:
    return ast.parse((REPOSITORY / module).read_text("utf-8"), module)


def layer_of(name: str) -> int:
    """The index in LAYERS of the longest entry that a dotted name begins with."""
    if name == "starman":
        return len(LAYERS) - 1
    found = [entry for entry in LAYERS if entry != "starman" and begins_with(name, entry)]
    assert found, f"{name} is in no entry of LAYERS"
    return LAYERS.index(max(found, key=len))


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


def own_imports(module: str) -> set[str]:
    """The modules of starman that a module imports, by dotted name; those for type checkers as well."""
    return {name for _, name in imports_of(module) if begins_with(name, "starman")}


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    own = layer_of(dotted(module))
    upward = {name for name in own_imports(module) if layer_of(name) > own}
    assert upward == UPWARD.get(dotted(module), set())


def test_no_modules_import_each_other_in_a_circle() -> None:
    imports = {dotted(module): own_imports(module) - {dotted(module)} for module in MODULES}
    circular = {name for name in imports if name in reachable(name, imports)}
    assert circular == CIRCULAR


def reachable(start: str, imports: dict[str, set[str]]) -> set[str]:
    """Every module that `start` imports, directly or through others."""
    found: set[str] = set()
    waiting = list(imports[start])
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += imports[name]
    return found


@pytest.mark.parametrize("folder", sorted({str(Path(module).parent) for module in MODULES}))
def test_no_folder_is_crowded(folder: str) -> None:
    assert len([module for module in MODULES if str(Path(module).parent) == folder]) <= MOST_FILES


@pytest.mark.parametrize("module", MODULES)
def test_packages_do_without_what_they_never_import(module: str) -> None:
    forbidden = {banned for package, names in NEVER.items() if begins_with(dotted(module), package) for banned in names}
    found = [
        f"{module}:{line} imports {name}"
        for line, name in imports_of(module)
        if any(begins_with(name, banned) for banned in forbidden) and (module, name) not in ALLOWED
    ]
    assert found == []


@pytest.mark.parametrize("module", [module for module in MODULES if re.match("starman/(proto|wsgi|serving)/", module)])
def test_only_processes_fork(module: str) -> None:
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
