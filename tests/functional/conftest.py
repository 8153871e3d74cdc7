"""Fixtures of the functional tests: a running server for a module, the events that its application notes, and an
application that a test may change."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.applications import pattern
from tests.functional.support.code import Code
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import Client


class Events:
    """The lines that the application has appended to its file of events."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self) -> list[str]:
        """All lines so far."""
        return self.path.read_text().splitlines() if self.path.exists() else []

    def count(self, line: str) -> int:
        """How often this line is there."""
        return self.lines().count(line)

    def wait_for(self, line: str, timeout: float = 10.0) -> None:
        """Wait until the line is there."""
        assert wait_until(lambda: self.count(line) > 0, timeout), f"{line!r} is not in {self.lines()}"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory for the files of one module's server. `file.txt` in it holds pattern(300,000)."""
    path = tmp_path_factory.mktemp("server")
    (path / "file.txt").write_bytes(pattern(300_000))
    return path


@pytest.fixture(scope="module")
def events(directory: Path) -> Events:
    return Events(directory / "events.txt")


@pytest.fixture(scope="module")
def server_env(directory: Path, events: Events) -> dict[str, str]:
    """What tests.functional.support.applications needs to find in the environment."""
    return {"TEST_EVENTS": str(events.path), "TEST_FILE": str(directory / "file.txt")}


@pytest.fixture(scope="module")
def server(server_env: dict[str, str]) -> Iterator[Server]:
    """One worker with four threads, shared by the tests of a module."""
    with Server("tests.functional.support.applications:app", "--workers", "1", "--threads", "4", env=server_env) as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    """A raw connection to `server`."""
    with server.client() as connected:
        yield connected


@pytest.fixture
def code(tmp_path: Path) -> Code:
    """The small application of a test, in a directory of its own."""
    return Code(tmp_path)
