"""starman.process.worker.shared_imports: the mold imports what its workers need; the master does not."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

SCRIPT = """
import sys
from starman.process.worker.shared_imports import import_service
heavy = ("anyio", "asyncio", "httptools", "starman.process.worker.worker", "starman.serving.service", "uvloop")
print([name for name in heavy if name in sys.modules])
service = import_service()
print([name for name in heavy if name not in sys.modules], service.__name__)
"""


def test_everything_is_imported_at_the_call_and_nothing_before() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (["[]", "[] Service"], "")


LOG_SCRIPT = """
import sys
from starman.config.settings import Settings
from starman.process.worker.shared_imports import import_features, import_service
from starman.serving.access_log.opening import open_access_log
PACKAGE = "starman.serving.access_log"
import_service()
given = {GIVEN}
import_features(Settings.of(**given))
before = set(sys.modules)
print(sorted(name.removeprefix(PACKAGE + ".") for name in before if name.startswith(PACKAGE + ".")))
log = open_access_log(Settings.of(**given))
print(log is not None, sorted(set(sys.modules) - before))
"""
COMBINED = ["access_log", "combined", "destinations", "escaping", "formats", "line_format", "log_times", "logged_request"]


@pytest.mark.parametrize(
    ("given", "modules"),
    [
        ({}, []),
        ({"access_log": "off"}, []),
        ({"access_log": "-"}, COMBINED),
        (
            {"access_log": "-", "access_log_format": "common", "access_log_skip": ("/health",)},
            [*COMBINED, "json_formats", "line_filter"],
        ),
        ({"access_log": "-", "access_log_format": "ecs"}, [*COMBINED, "json_formats"]),
        ({"access_log": "-", "access_log_format": "%(h)s"}, [*COMBINED, "atoms", "custom"]),
    ],
)
def test_a_mold_imports_the_access_log_only_if_there_is_one(given: dict[str, Any], modules: list[str]) -> None:
    script = LOG_SCRIPT.replace("{GIVEN}", repr(given))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    expected = sorted([*modules, "opening"])
    assert (done.stdout.splitlines(), done.stderr) == ([repr(expected), f"{bool(modules)} []"], "")
