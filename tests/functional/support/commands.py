"""Runs commands to their end."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.functional.support.harness import REPOSITORY, environment

# How long (seconds) a command may take. It may share its processor with other tests.
SECONDS = 60


def run(
    command: Sequence[str], cwd: Path | str = REPOSITORY, env: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, with nothing on its standard input. `env`: changes to the environment."""
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def starman(
    *arguments: str, cwd: Path | str = REPOSITORY, env: Mapping[str, str | None] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `python -m starman` with these arguments to its end. A check binds a free port, unless `env` or the
    arguments name another one: others may check at the same time."""
    if "--check" in arguments:
        env = {"PORT": "0", **(env or {})}
    return run([sys.executable, "-m", "starman", *arguments], cwd, env)
