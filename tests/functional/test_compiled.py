"""The compiled build (setup.py) does as plain Python does: the tests of what it compiles are run once more, upon it.

It is made of a copy of the checkout, without a network, and stands in a tree with a copy of the tests: there `starman`
is what the wheel brings, as it is where the wheel is installed.
"""

from __future__ import annotations

import faulthandler
import fcntl
import os
import random
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from starman.version import VERSION
from tests.functional.support.harness import REPOSITORY, wait_until
from tests.functional.support.installation import Installation, upgrade
from tests.functional.support.load import Load
from tests.functional.support.tools import find_tool

# What a build is made of, and what the tests need beside it.
SOURCES = ("setup.py", "pyproject.toml", "README.md", "LICENSE", "starman")
TESTS = ("tests", "examples", "pyproject.toml", "setup.py")

# Unit tests that put nothing of their own in the place of native classes, and functional tests.
GROUPS = {
    "HTTP": (
        *("tests/unit/proto/test_chunked.py", "tests/unit/proto/test_request.py", "tests/unit/proto/test_response.py"),
        *("tests/functional/test_http.py", "tests/functional/test_raw.py", "tests/functional/test_raw_responses.py"),
    ),
    "WSGI": (
        *("tests/unit/wsgi", "tests/functional/test_wsgi.py", "tests/functional/test_websocket.py"),
        *("tests/functional/test_logs.py", "tests/functional/test_graceful.py", "tests/functional/test_uploads.py"),
        *("tests/functional/test_blocks.py", "tests/functional/test_hostile.py", "tests/functional/test_request_hooks.py"),
    ),
    "slow readers": ("tests/functional/test_slow_readers.py",),
    "no threads": ("tests/functional/test_inline.py",),
    "connections": tuple(f"tests/functional/test_{name}.py" for name in ("tls", "connecting", "clients", "listening")),
    "slow clients": tuple(f"tests/functional/test_{name}.py" for name in ("slow_clients", "body_memory", "refusals")),
    "operating": tuple(
        f"tests/functional/test_{name}.py" for name in ("load_shedding", "request_timeout", "queue_metrics", "refusal_metrics")
    ),
    "load": tuple(f"tests/functional/test_{name}.py" for name in ("mixed", "balance", "idle", "reload")),
    "torture": ("tests/functional/test_torture.py::test_a_server[--preload-app]",),
}

# Streams of bytes for the parser.
STREAMS = 4000


def run(tree: Path, *command: str, timeout: float = 600.0, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a tree, where it finds that tree's starman; standard error is in the output."""
    environ = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST", "STARMAN", "COMPILE"))
    }
    return subprocess.run(
        [sys.executable, *command],
        cwd=tree,
        env={**environ, "PYTHONDONTWRITEBYTECODE": "1", **changes},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def copy(names: Sequence[str], to: Path) -> Path:
    """A copy of a part of the repository."""
    to.mkdir(parents=True, exist_ok=True)
    for name in names:
        if (REPOSITORY / name).is_dir():
            shutil.copytree(REPOSITORY / name, to / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(REPOSITORY / name, to)
    return to


def build(source: Path, tree: Path) -> None:
    """Build the wheel, and unpack it. What is built leaves nothing beside the sources."""
    before = set((source / "starman").rglob("*"))
    pip = ("-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", str(tree), str(source))
    done = run(source, *pip)
    assert done.returncode == 0, done.stdout
    assert set((source / "starman").rglob("*")) == before
    assert not (source / "build").exists()
    (wheel,) = tree.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        # Files that are not modules.
        assert {"starman/py.typed", "starman/observer/page/page.html"} <= set(archive.namelist())
        archive.extractall(tree)


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree, made by the first process that wants it."""
    find_tool("gcc")
    faulthandler.cancel_dump_traceback_later()  # as in `own_limits`, which comes after this
    base = tmp_path_factory.getbasetemp()
    tree = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "compiled"
    with open(f"{tree}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not tree.exists():
            made = copy(TESTS, tmp_path_factory.mktemp("building"))
            build(copy(SOURCES, tmp_path_factory.mktemp("source")), made)
            made.rename(tree)
            # Bytecode, which servers under test do not write: each would compile all modules that are not native.
            assert run(tree, "-m", "compileall", "-q", ".").returncode == 0
    return tree


@pytest.fixture(autouse=True)
def own_limits() -> None:
    """Lift the limit of a test's time: these tests may take long, and each of their commands has its own limit."""
    faulthandler.cancel_dump_traceback_later()


def test_it_says_what_it_is(compiled: Path) -> None:
    assert run(compiled, "-m", "starman", "--version").stdout == f"starman {VERSION} (compiled)\n"
    assert run(REPOSITORY, "-m", "starman", "--version").stdout == f"starman {VERSION}\n"


@pytest.mark.parametrize("group", GROUPS)
def test_the_tests_of_plain_python_pass(group: str, compiled: Path, request: pytest.FixtureRequest) -> None:
    options = ["--forbid-skip"] if request.config.getoption("--forbid-skip") else []
    done = run(compiled, "-m", "pytest", "-p", "no:cacheprovider", *options, *GROUPS[group], timeout=900)
    assert done.returncode == 0, done.stdout[-20_000:]


def test_it_makes_the_same_of_any_bytes(compiled: Path) -> None:
    seed = random.randrange(1 << 32)
    command = ("-m", "tests.functional.support.verdicts", str(seed), str(STREAMS))
    plain, native = run(REPOSITORY, *command), run(compiled, *command)
    assert (plain.returncode, native.returncode) == (0, 0), native.stdout[-5_000:]
    pairs = list(zip(plain.stdout.splitlines(), native.stdout.splitlines(), strict=True))
    assert len(pairs) == 2 * STREAMS
    assert [pair for pair in pairs if pair[0] != pair[1]] == [], f"seed {seed}"


def test_an_upgrade_to_it_and_back_loses_nothing(compiled: Path, tmp_path: Path) -> None:
    installed = Installation(tmp_path)
    plain, native = tmp_path / "plain", tmp_path / "native"
    shutil.copytree(compiled / "starman", native)
    (library,) = compiled.glob("*__mypyc*.so")

    def has(kind: str) -> bool:
        pids = server.worker_pids()
        return len(pids) == 2 and all(
            (library.name in Path(f"/proc/{pid}/maps").read_text()) == (kind == "native") for pid in pids
        )

    with installed.serve() as server, Load(server.client, "/pid") as load:
        assert has("plain")
        shutil.copy(library, tmp_path)
        installed.package.rename(plain)
        native.rename(installed.package)
        upgrade(server)
        assert wait_until(lambda: has("native"), 30)
        load.wait_for_turns(10)
        installed.package.rename(native)
        plain.rename(installed.package)
        (tmp_path / library.name).unlink()
        upgrade(server, 2)
        assert wait_until(lambda: has("plain"), 30)
        load.wait_for_turns(10)
    assert load.failures == []


# What is built where


def wheel_of(source: Path, **changes: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Try to build the wheel. What was said, and which files are in it."""
    done = run(copy(SOURCES, source), "setup.py", "bdist_wheel", **changes)
    files: list[str] = []
    for wheel in source.glob("dist/*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            files += archive.namelist()
    return done, files


def is_plain(files: list[str]) -> bool:
    return "starman/proto/request.py" in files and not any(name.endswith(".so") for name in files)


def test_plain_python_can_be_had(tmp_path: Path) -> None:
    done, files = wheel_of(tmp_path, COMPILE_STARMAN="0")
    assert done.returncode == 0
    assert is_plain(files)
    assert "not compiled" not in done.stdout


NO_COMPILER = "a C compiler is needed, and there is no no-such-compiler (Debian: apt install gcc libc6-dev)\n"


def test_without_a_compiler_it_is_plain_python(tmp_path: Path) -> None:
    done, files = wheel_of(tmp_path, CC="no-such-compiler -O2")
    assert done.returncode == 0
    assert is_plain(files)
    assert f"starman is not compiled but plain Python: {NO_COMPILER}" in done.stdout


def test_with_a_compiler_that_fails_it_is_plain_python(tmp_path: Path) -> None:
    done, files = wheel_of(tmp_path, CC="false")
    assert done.returncode == 0, done.stdout
    assert is_plain(files)
    assert re.search(r"^starman is not compiled but plain Python: error: .*'false'", done.stdout, re.MULTILINE | re.IGNORECASE)


def test_a_required_compiled_build_is_compiled_or_fails(tmp_path: Path) -> None:
    done, files = wheel_of(tmp_path / "without", COMPILE_STARMAN="1", CC="no-such-compiler -O2")
    assert (done.returncode, done.stdout, files) == (1, NO_COMPILER, [])
    done, files = wheel_of(tmp_path / "failing", COMPILE_STARMAN="1", CC="false")
    assert (done.returncode, files) == (1, [])
    assert re.search(r"^error: .*'false'", done.stdout, re.MULTILINE)


def test_a_wrong_value(tmp_path: Path) -> None:
    done, files = wheel_of(tmp_path, COMPILE_STARMAN="yes")
    assert (done.returncode, done.stdout, files) == (
        1,
        "COMPILE_STARMAN must be 1, for a compiled starman, or 0, for plain Python, not 'yes'\n",
        [],
    )


def test_an_editable_installation_is_plain(tmp_path: Path) -> None:
    done = run(copy(SOURCES, tmp_path), "setup.py", "editable_wheel", COMPILE_STARMAN="1")
    assert (done.returncode, done.stdout) == (1, "COMPILE_STARMAN=1 is for wheels: an editable installation is plain Python\n")
    done = run(tmp_path, "setup.py", "editable_wheel")
    assert done.returncode == 0
    assert not list(tmp_path.rglob("*.so"))
