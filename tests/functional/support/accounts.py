"""An unprivileged account for tests of --user, and a copy of Python that the account may read."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import httptools
import idna
import typing_extensions
import uvloop

import starman
from tests.functional.support.harness import Process, environment
from tests.functional.support.tools import find_tool

# Bytecode that another process is writing. Finished bytecode is copied: without it, each start would compile anew.
HALF_WRITTEN = shutil.ignore_patterns("*.pyc.*")
# Of the standard library, what no server needs; of it all that is large.
LEFT_OUT = shutil.ignore_patterns(
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "ensurepip",
    "site-packages",
    "dist-packages",
    "lib2to3",
    "config-*",
    "*.pyc.*",
    "*.opt-?.pyc",
)
PACKAGES = (anyio, httptools, idna, typing_extensions, uvloop, starman)
# Runs a command of starman as another user.
_COMMAND_AS = """\
import os, sys
user, group = map(int, sys.argv[1:3])
os.setgroups([])
os.setgid(group)
os.setuid(user)
from starman.cli import main
sys.exit(main(sys.argv[3:]))
"""


class Account:
    """A user made for the test. The primary group has another name, and the user is in a further group."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.group = f"{name}-own"
        self.further = f"{name}-too"
        for group in (self.group, self.further):
            run("groupadd", "--system", group)
        run("useradd", "--system", "--no-create-home", "--gid", self.group, "--groups", self.further, name)

        import grp
        import pwd

        self.uid = pwd.getpwnam(name).pw_uid
        self.gid = grp.getgrnam(self.group).gr_gid
        self.further_gid = grp.getgrnam(self.further).gr_gid

    def remove(self) -> None:
        run("userdel", self.name)
        for group in (self.group, self.further):
            run("groupdel", group)


def run(*command: str) -> None:
    subprocess.run([find_tool(command[0]), *command[1:]], check=True, capture_output=True, timeout=60)


class Place:
    """A directory that every user may enter, with a copy of what starman needs to run. `site` belongs to the
    account."""

    def __init__(self, directory: Path, account: Account) -> None:
        self.directory = directory
        self.site = directory / "site"
        directory.chmod(0o755)
        library = Path(sysconfig.get_path("stdlib"))
        own = directory / "python" / library.relative_to(sys.base_prefix)
        shutil.copytree(library, own, ignore=LEFT_OUT, symlinks=True)
        packages = directory / "packages"
        packages.mkdir()
        for package in PACKAGES:
            assert package.__file__ is not None
            source = Path(package.__file__)
            if source.name == "__init__.py":
                shutil.copytree(source.parent, packages / source.parent.name, ignore=HALF_WRITTEN)
            else:
                shutil.copy(source, packages)
        self.site.mkdir()
        os.chown(self.site, account.uid, account.gid)
        self._env = {"PYTHONHOME": str(directory / "python"), "PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}

    def start(self, *arguments: str, **env: str) -> Process:
        """`python -m starman ARGUMENTS…` in the site's directory, as root, with `env` more."""
        return Process(self._command(*arguments), cwd=self.site, env={**self._env, "VIRTUAL_ENV": None, **env})

    def start_with(self, stderr: int, *arguments: str) -> subprocess.Popen[bytes]:
        """As `start`, with this descriptor as standard error."""
        env = environment({**self._env, "VIRTUAL_ENV": None})
        command = self._command(*arguments)
        return subprocess.Popen(
            command,
            cwd=self.site,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )

    def run_as(self, uid: int, gid: int, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `starman-uv WORDS…` as this user and group, to its end."""
        command = [os.path.realpath(sys.executable), "-c", _COMMAND_AS, str(uid), str(gid), *words]
        env = environment({**self._env, "VIRTUAL_ENV": None})
        return subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, timeout=60, check=False)

    def _command(self, *arguments: str) -> list[str]:
        # Root starts the interpreter, and may read it where it is.
        return [os.path.realpath(sys.executable), "-W", "error", "-m", "starman", *arguments]


@contextmanager
def place_for(account: Account) -> Iterator[Place]:
    """A place that is removed at the end."""
    with TemporaryDirectory(prefix="starman-test-", dir="/tmp") as directory:
        yield Place(Path(directory), account)
