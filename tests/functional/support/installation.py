"""A site with its own copy of starman, which a test changes while the server runs, as an installation does."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from tests.functional.support.code import Code
from tests.functional.support.harness import REPOSITORY, Server

REPLACED = r"restarted: \d+ workers? (is|are) new"


class Installation:
    """A site with its own copy of starman."""

    def __init__(self, directory: Path) -> None:
        self.site = Code(directory)
        self.package = directory / "starman"
        # With what was compiled of it, which is out of date for a file that a test changes.
        shutil.copytree(REPOSITORY / "starman", self.package, ignore=shutil.ignore_patterns("*.pyc.*"))  # half written ones
        self.file = directory / "starman.toml"
        self.configure()

    def configure(self, more: str = "") -> None:
        self.file.write_text(f'app = "site_app:app"\nworkers = 2\n{more}')

    def install(self, version: str) -> None:
        """Have another version installed."""
        (self.package / "version.py").write_text(f'VERSION = "{version}"\n')

    def break_file(self, name: str, text: str = "this is no Python\n") -> None:
        (self.package / name).write_text(text)

    def serve(self, *arguments: str, listen: str | Sequence[str] = "127.0.0.1:0") -> Server:
        """A server of that installation."""
        env = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(self.site.directory)}
        return Server(None, *arguments, listen=listen, cwd=self.site.directory, env=env)


def upgrade(server: Server, count: int = 1) -> None:
    """Upgrade, and wait until the `count`th roll-out is over."""
    server.signal(signal.SIGUSR2)
    server.wait_for("has taken over", 60, count)
    server.wait_for(REPLACED, 60, count)
