"""Runs the commands for a server that runs (`starman-uv status` and others), and talks to its control socket."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from typing import Any

from tests.functional.support.harness import REPOSITORY, Process, environment


def command(*words: str, timeout: float = 60.0, env: dict[str, str | None] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `starman-uv` with these words, to its end."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "starman", *words],
        cwd=REPOSITORY,
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_for(server: Process, *words: str) -> str:
    """What a command for `server` prints. Fails the test if the command fails."""
    done = command(words[0], "--pid", str(server.pid), *words[1:])
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout


def status_of(server: Process) -> dict[str, Any]:
    """The status document of `server`."""
    found: dict[str, Any] = json.loads(run_for(server, "status", "--json"))
    return found


def control(server: Process) -> socket.socket:
    """A connection to the control socket of `server`."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(30.0)
    connection.connect(f"\0starman/{server.pid}")
    return connection
