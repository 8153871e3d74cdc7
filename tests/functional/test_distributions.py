"""What is installed by name: the source distribution, the wheels, and another distribution that has the same package.

The compiled wheel is that of test_compiled.py. It is tagged by auditwheel, as `make dist` does.
"""

from __future__ import annotations

import importlib
import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from starman.version import VERSION
from tests.functional.support.harness import REPOSITORY
from tests.functional.support.tools import find_tool
from tests.functional.test_compiled import SOURCES, compiled, copy, run

__all__ = ["compiled"]

OTHER_FILES = {
    "starman/__init__.py": "from .kalman import KalmanFilter\n",
    "starman/kalman.py": "class KalmanFilter: ...\n",
    "starman-1.0.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: starman\nVersion: 1.0.0\n",
    "starman-1.0.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: by-hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    "starman-1.0.0.dist-info/RECORD": "",
}
DEPENDENCIES = (
    *("anyio", "httptools", "idna", "typing_extensions", "uvloop"),
    *("flask", "werkzeug", "jinja2", "markupsafe", "click", "itsdangerous", "blinker"),
)
CURE = "pip uninstall starman, then pip install --force-reinstall --no-deps starman-uv"


def test_the_source_distribution_has_every_file(tmp_path: Path) -> None:
    """`make test` runs in it when it is unpacked."""
    git = find_tool("git")
    listed = subprocess.run([git, "ls-files", "-z"], cwd=REPOSITORY, capture_output=True, check=False)
    names = {name for name in listed.stdout.decode().split("\0") if name}
    if listed.returncode != 0 or not names:  # without names: unpacked in the checkout of something else
        pytest.skip("not a checkout of git")
    source = tmp_path / "source"
    for name in names:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, source / name)
    done = run(source, "setup.py", "-q", "sdist", "--dist-dir", str(tmp_path / "dist"))
    assert done.returncode == 0, done.stdout
    (made,) = (tmp_path / "dist").iterdir()
    assert made.name == f"starman_uv-{VERSION}.tar.gz"
    with tarfile.open(made) as archive:
        packed = {member.name.partition("/")[2]: member for member in archive.getmembers() if member.isfile()}
    assert names - packed.keys() == set()
    added = {name for name in packed.keys() - names if not name.startswith("starman_uv.egg-info/")}
    assert added == {"PKG-INFO", "setup.cfg"}
    assert packed[".ci/run"].mode & 0o111
    assert not any(name.startswith(".venv") for name in packed)


@pytest.fixture(scope="module")
def wheels(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The plain wheel and the compiled one, in one directory."""
    directory = tmp_path_factory.mktemp("wheels")
    done = run(
        copy(SOURCES, tmp_path_factory.mktemp("plain")),
        *("setup.py", "-q", "bdist_wheel", "--dist-dir", str(directory)),
        COMPILE_STARMAN="0",
    )
    assert done.returncode == 0, done.stdout
    (plain,) = directory.iterdir()
    (built,) = compiled.glob("*.whl")
    done = run(directory, "-m", "auditwheel", "repair", "--wheel-dir", str(directory), str(built), PATH=_path_with_patchelf())
    assert done.returncode == 0, done.stdout
    (native,) = set(directory.iterdir()) - {plain}
    return plain, native


def _path_with_patchelf() -> str:
    return os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]])


def test_the_wheels_are_what_an_index_takes(wheels: tuple[Path, Path]) -> None:
    plain, native = wheels
    assert plain.name == f"starman_uv-{VERSION}-py3-none-any.whl"
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert native.name.startswith(f"starman_uv-{VERSION}-{tag}-{tag}-manylinux")
    done = run(REPOSITORY, "-m", "twine", "check", "--strict", *map(str, wheels))
    assert done.returncode == 0, done.stdout


class Environment:
    """A new environment, in which what starman and Flask depend on can be imported, without a package index. No
    compiler is in its PATH."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        subprocess.run([sys.executable, "-m", "venv", str(directory)], check=True, timeout=120)
        self.python = directory / "bin" / "python"
        site = next(directory.glob("lib/python*/site-packages"))
        for name in DEPENDENCIES:
            path = Path(str(importlib.import_module(name).__file__))
            path = path.parent if path.name == "__init__.py" else path
            (site / path.name).symlink_to(path)

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "STARMAN", "PIP"))}
        env |= {"PATH": str(self.directory / "bin"), "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
        return subprocess.run(
            [self.python, *command], cwd=self.directory, env=env, capture_output=True, text=True, timeout=180, check=False
        )

    def pip(self, *arguments: str | Path) -> str:
        done = self.run("-m", "pip", *arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def install(self, wheels: Path, *options: str) -> None:
        self.pip("install", "--no-index", "--no-deps", "--find-links", wheels, *options, "starman-uv")


def test_pip_prefers_the_compiled_wheel_and_else_takes_the_plain_one(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    plain, native = wheels
    environment = Environment(tmp_path / "env")
    environment.install(native.parent)
    done = environment.run(REPOSITORY / "tests" / "installed.py", "compiled")
    assert done.returncode == 0, done.stderr
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(plain, alone)
    environment.install(alone, "--force-reinstall")
    done = environment.run(REPOSITORY / "tests" / "installed.py", "plain")
    assert done.returncode == 0, done.stderr


def other_distribution(directory: Path) -> Path:
    """A wheel of another project named starman."""
    path = directory / "starman-1.0.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in OTHER_FILES.items():
            record = "".join(f"{name},,\n" for name in OTHER_FILES) if name.endswith("RECORD") else text
            archive.writestr(name, record)
    return path


def test_another_distribution_named_starman(wheels: tuple[Path, Path], tmp_path: Path) -> None:
    plain, _ = wheels
    other = other_distribution(tmp_path)
    environment = Environment(tmp_path / "env")
    alone = tmp_path / "alone"
    alone.mkdir()
    shutil.copy(plain, alone)
    check = ("-m", "starman", "--check", "--listen", "127.0.0.1:0", "-e", "lambda environ, start_response: []")

    environment.install(alone)
    done = environment.run(*check)
    assert (done.returncode, done.stderr) == (0, "")

    environment.pip("install", "--no-index", "--no-deps", other)  # over ours
    done = environment.run(*check)
    assert (done.returncode, done.stderr) == (
        1,
        "starman: files of the server have been replaced or removed by the distribution starman 1.0.0, which has a package "
        f"named starman too: {CURE}\n",
    )

    environment.install(alone, "--force-reinstall")  # ours over the other
    done = environment.run(*check)
    assert done.returncode == 0
    assert done.stderr == (
        "starman: the distribution starman 1.0.0 is installed too, and has a package named starman, as this server "
        f"(starman-uv) has: upgrading or removing it breaks the server. {CURE}\n"
    )

    embedded = "import starman; starman.run('missing:app', listen='127.0.0.1:0', workers=1)"
    done = environment.run("-c", embedded)
    assert done.returncode == 1
    assert done.stderr.count("[WARNING] the distribution starman 1.0.0 is installed too, and has a package named starman") == 1
    assert "No module named 'missing'" in done.stderr

    environment.pip("uninstall", "--yes", "starman")  # with files of ours
    done = environment.run(*check)
    assert (done.returncode, done.stderr) == (
        1,
        "starman: files of the server have been replaced or removed by another distribution, which has a package named "
        f"starman too: {CURE}\n",
    )

    environment.install(alone, "--force-reinstall")
    done = environment.run(*check)
    assert (done.returncode, done.stderr) == (0, "")
