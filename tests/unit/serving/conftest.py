"""Fixtures of the tests that run a real Service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.unit.serving.running import hasten, kind_of_service


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the service check its timeouts often."""
    hasten(monkeypatch)


@pytest.fixture(params=["uvloop", "unix", "asyncio"])
def options(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The loops and kinds of sockets for which everything has to work, as arguments of `Running`."""
    return kind_of_service(request.param, tmp_path)
