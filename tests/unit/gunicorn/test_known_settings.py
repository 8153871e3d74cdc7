"""starman.gunicorn.known_settings: the table is complete, compared with an installed gunicorn."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from starman.gunicorn.known_settings import HOOKS, KNOWN_SETTINGS
from starman.gunicorn.mapping.map_settings import FUNCTIONS
from starman.gunicorn.mapping.tables import CALLED, DEFAULTS, HARMLESS, REFUSED, SAME, UNSUPPORTED

# In another process, because it reads the environment when it is imported.
SCRIPT = """
import json, gunicorn.config
print(json.dumps([
    [setting.name, setting.cli or [], setting.action or "store", setting.type is int,
     setting.default if isinstance(setting.default, (str, int, list, dict, type(None))) else None]
    for setting in gunicorn.config.KNOWN_SETTINGS
]))
"""
# Their defaults belong to the machine, or to Python.
LOCAL = {"chdir", "user", "group", "control_socket", "ssl_version", "cert_reqs"}


@pytest.fixture(scope="module")
def real() -> list[list[object]]:
    pytest.importorskip("gunicorn")
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env={"HOME": "/"}, check=True)
    found: list[list[object]] = json.loads(done.stdout)
    return found


def test_every_setting_of_gunicorn_is_in_the_table(real: list[list[object]]) -> None:
    assert {str(name) for name, *_ in real} <= set(KNOWN_SETTINGS)


def test_the_options_of_every_setting_are_the_same(real: list[list[object]]) -> None:
    assert [name for name, flags, *_ in real if list(KNOWN_SETTINGS[str(name)].flags) != flags] == []


def test_the_default_of_every_setting_is_the_same(real: list[list[object]]) -> None:
    different = [name for name, *_, default in real if KNOWN_SETTINGS[str(name)].default != default]
    assert set(different) - LOCAL == set()


def test_every_setting_has_exactly_one_fate() -> None:
    tables = [set(SAME), set(FUNCTIONS), set(CALLED), set(HARMLESS), set(UNSUPPORTED), set(REFUSED)]
    for name in KNOWN_SETTINGS:
        assert sum(name in table for table in tables) == 1, name
    assert set().union(*tables) == set(KNOWN_SETTINGS)
    assert set(CALLED) <= set(HOOKS)
    assert set(DEFAULTS) <= set(KNOWN_SETTINGS)


def test_hooks_are_the_settings_that_are_functions() -> None:
    assert {"on_starting", "when_ready", "post_fork", "worker_exit", "child_exit", "on_exit"} <= set(HOOKS)
    assert "worker_class" not in HOOKS
