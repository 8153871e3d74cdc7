"""A real PostgreSQL server for a test: a cluster of its own, on the loopback address."""

from __future__ import annotations

import glob
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tests.functional.support.harness import free_ports
from tests.functional.support.tools import find_tool

# Debian puts the programs of a server outside of the path.
PLACES = "/usr/lib/postgresql/*/bin/"


def program(name: str) -> str:
    """The path of a program of PostgreSQL. Where it is missing, skips or fails the test, as `find_tool` does."""
    found = sorted(glob.glob(PLACES + name))
    return found[-1] if found else find_tool(name)


def unprivileged() -> str | None:
    """The user that runs the server: it refuses to run as root. None: this user."""
    if os.getuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


@contextmanager
def postgresql() -> Iterator[str]:
    """Run a server. Yields the connection string of its superuser."""
    initdb, server = program("initdb"), program("postgres")
    user = unprivileged()
    # Not below the directory of the test, which only root may enter.
    directory = tempfile.mkdtemp(prefix="starman-postgresql-")
    (port,) = free_ports()
    try:
        if user is not None:
            shutil.chown(directory, user)
        data = os.path.join(directory, "data")
        subprocess.run(
            [initdb, "-D", data, "-U", "tester", "-A", "trust", "-N", "--locale=C", "-E", "UTF8"],
            check=True,
            cwd=directory,
            user=user,
            capture_output=True,
            timeout=120,
        )
        options = ["-F", "-p", str(port), "-k", directory, "-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=16MB"]
        running = subprocess.Popen([server, "-D", data, *options], cwd=directory, user=user, stderr=subprocess.DEVNULL)
        try:
            conninfo = f"host=127.0.0.1 port={port} user=tester dbname=postgres"
            wait_for_answer(conninfo)
            yield conninfo
        finally:
            running.terminate()
            running.wait(60)
    finally:
        shutil.rmtree(directory)


def wait_for_answer(conninfo: str) -> None:
    """Wait until the server accepts connections."""
    import psycopg

    from tests.functional.support.harness import wait_until

    def answers() -> bool:
        try:
            psycopg.connect(conninfo).close()
        except psycopg.OperationalError:
            return False
        return True

    assert wait_until(answers, 60), "PostgreSQL does not answer"
