"""Programs that tests use as clients and proxies. A test that needs a missing one is skipped (see --forbid-skip)."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin", "/sbin"])


def find_tool(name: str) -> str:
    """The path of a program. Skips the test if it is not installed."""
    path = shutil.which(name, path=_PATH)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def need_root() -> None:
    """Skips the test unless this process runs as root: only root can become another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")


def run_tool(name: str, *arguments: str, timeout: float = 60.0) -> subprocess.CompletedProcess[bytes]:
    """Run a program to its end, at most `timeout` seconds, without proxies of the environment. Fails the test if it
    fails."""
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    done = subprocess.run([find_tool(name), *arguments], capture_output=True, timeout=timeout, env=env, check=False)
    assert done.returncode == 0, f"{name} {' '.join(arguments)}: {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
    return done


def curl(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run curl, silent but for errors."""
    return run_tool("curl", "--silent", "--show-error", "--max-time", "30", *arguments)
