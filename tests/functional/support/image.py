"""The root of a container, without Docker: Python, a compiled starman and an application, and nothing else.

It has no shell, no compiler and no password database, and runs read-only, as process 1 of its own, under a user
without a name. It is made with the namespaces of Linux, so only root can use it.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import TracebackType

from tests.functional.support.accounts import HALF_WRITTEN, LEFT_OUT, PACKAGES
from tests.functional.support.harness import environment, wait_until
from tests.functional.support.tools import find_tool, need_root

USER = 10001

# Runs in new namespaces: $1 is the root, $2 whether it has a writable /tmp, and the rest is the command.
_ENTER = f"""
root=$1 writable=$2; shift 2
mount --bind "$root" "$root" && mount -t proc proc "$root/proc" && mount --bind /dev "$root/dev" || exit 99
mount -o remount,ro,bind "$root" || exit 99
[ "$writable" = no ] || mount -t tmpfs tmpfs "$root/tmp" || exit 99
exec chroot --userspec={USER}:{USER} --groups= "$root" "$@"
"""
_NEW_NAMESPACES = ("unshare", "--mount", "--pid", "--fork")
_ENVIRONMENT = {"PYTHONHOME": "/python", "PYTHONPATH": "/packages"}


class Image:
    """A root at `root` with the `starman` that lies unpacked in `tree`. `command`: Python in it."""

    def __init__(self, root: Path, tree: Path) -> None:
        need_root()
        for name in ("unshare", "chroot", "mount", "ldd"):
            find_tool(name)
        self.root = root
        for name in ("proc", "dev", "tmp", "app", "packages"):
            (root / name).mkdir(parents=True)
        (root / "tmp").chmod(0o1777)
        library = Path(sysconfig.get_path("stdlib"))
        own = root / "python" / library.relative_to(sys.base_prefix)
        shutil.copytree(library, own, ignore=LEFT_OUT, symlinks=True)
        for package in PACKAGES:
            assert package.__file__ is not None
            source = Path(package.__file__)
            if package.__name__ == "starman":
                source = tree / "starman" / "__init__.py"
            if source.name == "__init__.py":
                shutil.copytree(source.parent, root / "packages" / source.parent.name, ignore=HALF_WRITTEN)
            else:
                shutil.copy(source, root / "packages")
        for compiled in tree.glob("*__mypyc*.so"):
            shutil.copy(compiled, root / "packages")
        shutil.copy(os.path.realpath(sys.executable), root / "python" / "python3")
        for binary in (root / "python" / "python3", *root.rglob("*.so")):
            self._copy_libraries(binary)

    def _copy_libraries(self, binary: Path) -> None:
        """Copy the shared libraries that a program or module needs to the same places."""
        done = subprocess.run([find_tool("ldd"), str(binary)], capture_output=True, text=True, check=False)
        own = os.path.join(sys.base_prefix, "lib")
        found = [Path(path) for path in re.findall(r"(?:=> |^\s+)(/\S+) \(0x", done.stdout, re.MULTILINE)]
        found += [Path(own, name) for name in re.findall(r"(libpython\S+) => not found", done.stdout)]
        for library in found:
            target = self.root / library.relative_to("/")
            if library.exists() and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(library, target)

    def run(self, *arguments: str, writable: bool = True, **env: str) -> Container:
        """Start `python -m starman ARGUMENTS…` in the directory /app. `writable`: whether it has a writable /tmp."""
        command = ["/python/python3", "-m", "starman", "--chdir", "/app", *arguments]
        return Container(self.root, command, {**_ENVIRONMENT, **env}, writable=writable)


class Container:
    """A server in an image. A context manager: leaving it ends the server. log: what it has written to standard
    error."""

    def __init__(self, root: Path, command: list[str], env: dict[str, str], *, writable: bool) -> None:
        self._log = root.parent / "log"
        with open(self._log, "wb") as log:
            self._process = subprocess.Popen(
                [*_NEW_NAMESPACES, find_tool("sh"), "-c", _ENTER, "sh", str(root), "yes" if writable else "no", *command],
                env={**environment({"TMPDIR": None}), **env},  # that directory is not in the image
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def log(self) -> str:
        """What the server has written."""
        return self._log.read_text("utf-8", "replace")

    def wait_for(self, words: str, seconds: float = 60.0) -> re.Match[str]:
        """Wait until the log has the words, a regular expression."""
        wait_until(lambda: re.search(words, self.log) is not None or self._process.poll() is not None, seconds)
        found = re.search(words, self.log)
        assert found is not None, self.log
        return found

    @property
    def pid(self) -> int:
        """Process 1 of the container, by its number outside."""
        text = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text()
        return int(text.split()[0])

    def processes(self) -> list[int]:
        """The processes of the container, by their numbers outside."""
        found, pending = [], [self.pid]
        while pending:
            pid = pending.pop()
            found.append(pid)
            pending += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
        return found

    def stop(self) -> int:
        """Send TERM to process 1. Returns the status of the command."""
        os.kill(self.pid, signal.SIGTERM)
        return self._process.wait(60)

    def __enter__(self) -> Container:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)  # of process 1: all others of the namespace die with it
            self._process.wait(60)
