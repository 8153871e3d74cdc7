"""Fixtures of the tests that run a real Service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.serving.running import hasten, kind_of_service


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service looks at its clocks often."""
    hasten(monkeypatch)


@pytest.fixture(params=["uvloop", "unix", "asyncio"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The loops and kinds of sockets that everything has to work with, as arguments of `Running`."""
    return kind_of_service(request.param, tmp_path)
