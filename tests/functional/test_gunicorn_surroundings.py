"""`sys.argv`, SERVER_SOFTWARE and the environment in the configuration, hooks and application, under both servers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.functional.support.side_by_side import GUNICORN, STARMAN, running

pytest.importorskip("gunicorn")

SURROUNDINGS = """\
import os
import sys


def note(where):
    words = [word for word in sys.argv[1:] if word != "--no-control-socket"]
    program = os.path.basename(os.path.dirname(sys.argv[0]))
    found = [os.environ.get(name) for name in ("SERVER_SOFTWARE", "SECRET", "ADDED", "COLOUR")]
    with open("notes", "a") as file:
        file.write(f"{where} {program} {words} {found}\\n")


"""
OF_CONFIGURATION = """\
import os

from surroundings import note

if "executed" not in os.environ:
    note("configuration")
secret = os.environ.pop("SECRET")
os.environ.update(ADDED="1", executed="1", SERVER_SOFTWARE="replaced")
raw_env = ["COLOUR=red"]


def on_starting(server):
    note("on_starting")


def post_fork(server, worker):
    note("post_fork")


def on_exit(server):
    note("on_exit")
"""
OF_APPLICATION = """\
from surroundings import note

note("application")


def application(environ, start_response):
    note("request")
    start_response("200 OK", [])
    return []
"""


@pytest.mark.parametrize("options", [(), ("--preload",), ("-e", "SERVER_SOFTWARE=own")], ids=["plain", "preload", "own"])
def test_arguments_and_variables_are_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    monkeypatch.setenv("SECRET", "x")
    notes = []
    for server in (GUNICORN, STARMAN):
        directory = tmp_path / server
        directory.mkdir()
        (directory / "surroundings.py").write_text(SURROUNDINGS)
        (directory / "gunicorn.conf.py").write_text(OF_CONFIGURATION)
        (directory / "project.py").write_text(OF_APPLICATION)
        with running(server, directory, ["-b", "127.0.0.1:0", *options, "project"]):
            pass
        # starman executes the configuration in each process that runs its hooks.
        notes.append(set((directory / "notes").read_text().splitlines()) - {""})
    ours = {line for line in notes[1] if not line.startswith("configuration") or "[None, 'x', None, None]" in line}
    assert ours == notes[0]
    assert {line.split()[0] for line in ours} == {
        *("configuration", "on_starting", "post_fork", "on_exit"),
        *("application", "request"),
    }
    assert any("'own'" in line for line in ours) is ("-e" in options)
