"""Unusable directories for temporary files: one line at the start names them, and the server behaves as the line
says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.support.commands import run
from tests.functional.support.harness import REPOSITORY, Server
from tests.functional.support.wire import encode_request

# Imported by each interpreter: no file can be made in these directories, as on a file system that is read-only.
READ_ONLY = """
import errno, os

_open, TMPFILE = os.open, getattr(os, "O_TMPFILE", -1)

def open_(path, flags, *arguments, **keywords):
    place = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else ""
    made_in = place if flags & TMPFILE == TMPFILE else os.path.dirname(os.path.abspath(place)) if flags & os.O_CREAT else ""
    if made_in and os.path.abspath(made_in) in os.environ["READ_ONLY"].split(":"):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), place)
    return _open(path, flags, *arguments, **keywords)

os.open = open_
"""
APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/large":
        return [bytes(30_000_000)]
    return [b"%d" % len(environ["wsgi.input"].read())]
"""
SYSTEM = "/tmp:/var/tmp:/usr/tmp"
BODY = bytes(1000)


class Site:
    """A directory with an application and with a Python for which some directories are read-only."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.missing = directory / "missing"
        (directory / "site_app.py").write_text(APPLICATION)
        self._own = directory / "own"
        self._own.mkdir()
        (self._own / "sitecustomize.py").write_text(READ_ONLY)

    def env(self, read_only: str, **variables: str) -> dict[str, str | None]:
        path = f"{self._own}:{REPOSITORY}"
        return {"TMPDIR": None, "TEMP": None, "TMP": None, "PYTHONPATH": path, "READ_ONLY": read_only, **variables}

    def serve(self, read_only: str, *arguments: str, **variables: str) -> Server:
        arguments = ("--workers", "2", "--body-buffer", "500", *arguments)
        env = {"PYTHONDONTWRITEBYTECODE": "1", **self.env(read_only, **variables)}
        return Server("site_app:app", *arguments, cwd=self.directory, env=env)

    def check(self, read_only: str, **variables: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-W", "error", "-m", "starman", "--check", "--listen", "127.0.0.1:0", "site_app:app"]
        return run(command, self.directory, self.env(read_only, **variables))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def post(server: Server) -> tuple[int, bytes]:
    with server.client() as client:
        client.send(encode_request("POST", "/", [("Content-Length", str(len(BODY)))]) + BODY)
        response = client.read()
        return response.status, response.body


@pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])
def test_no_usable_directory(site: Site, mode: str) -> None:
    read_only = f"{SYSTEM}:{site.directory}"
    with site.serve(read_only, mode, TMPDIR=str(site.missing)) as server:
        line = server.wait_for("no usable temporary directory: .*")[0]
        assert f"TMPDIR={site.missing} (No such file or directory), /tmp (Read-only file system), /var/tmp (" in line
        assert f"the working directory {site.directory} (Read-only file system). Request bodies of more than 500 bytes" in line
        assert post(server)[0] == 500
        server.wait_for("the spool file of a request body failed: .*No usable temporary directory found")
        with server.client() as slow:
            slow.send(encode_request("GET", "/large"))
            server.wait_for("the connection of a client that reads slowly is reset, because its response cannot be kept", 30)
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new", 60)
        assert server.log.count("temporary directory: TMPDIR=") == 1
        assert server.log.count(" [WARNING] ") == 1, server.log
    done = site.check(read_only, TMPDIR=str(site.missing))
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"starman: no usable temporary directory: TMPDIR={site.missing} (No such file")


def test_the_working_directory_as_the_last_resort(site: Site) -> None:
    with site.serve(SYSTEM) as server:
        line = server.wait_for("no usable temporary directory: .*")[0]
        assert line.startswith("no usable temporary directory: /tmp (Read-only file system), /var/tmp (")
        assert f". Temporary files will be in the working directory, {site.directory}. Set TMPDIR to another" in line
        assert post(server) == (200, b"1000")
        assert server.log.count(" [WARNING] ") == 1
    assert sorted(os.listdir(site.directory)) == ["own", "site_app.py"]


def test_another_directory_than_the_one_that_is_wished(site: Site) -> None:
    with site.serve("", TMPDIR=str(site.missing)) as server:
        reason = f"TMPDIR={site.missing} (No such file or directory)"
        expected = f"temporary files will be in /tmp, because these places cannot be used: {reason}"
        server.wait_for(f"{re.escape(expected)}\n")
        assert post(server) == (200, b"1000")
        assert server.log.count(" [WARNING] ") == 1
    done = site.check("", TMPDIR=str(site.missing))
    assert (done.returncode, done.stderr) == (0, f"starman: {expected}\n")


@pytest.mark.parametrize("wished", [True, False])
def test_nothing_is_said_when_all_is_well(site: Site, wished: bool) -> None:
    variables = {"TMPDIR": str(site.directory)} if wished else {}
    with site.serve("", **variables) as server:
        assert post(server) == (200, b"1000")
        assert " [WARNING] " not in server.log
    assert site.check("", **variables).stderr == ""
