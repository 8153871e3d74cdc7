"""Resolves and maps command lines and configuration files of gunicorn in this process, for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from starman.gunicorn.command_line import parse_arguments
from starman.gunicorn.configuration import Resolved, Value, _defaults
from starman.gunicorn.known_settings import KNOWN_SETTINGS
from starman.gunicorn.mapping.map_settings import map_settings
from starman.gunicorn.mapping.outcomes import Fate, Outcomes


def resolved(application: str | None = "app:app", environ: Mapping[str, str] | None = None, **given: object) -> Resolved:
    """The settings of gunicorn with these values, as if a file named conf gave them. Executes nothing."""
    found = Resolved(parse_arguments([application] if application else []), _defaults(environ or {}))
    for name, value in given.items():
        found.values[name] = Value(KNOWN_SETTINGS[name].kind.read(value), f"conf: {name}")
    return found


def mapped(application: str | None = "app:app", environ: Mapping[str, str] | None = None, **given: object) -> Outcomes:
    """What becomes of these settings."""
    return map_settings(resolved(application, environ, **given))


def settings_of(outcomes: Outcomes) -> dict[str, object]:
    """The values of starman's settings, the defaults of gunicorn among them."""
    layers = {**outcomes.defaults, **outcomes.given}
    return {name: given.value for name, given in layers.items()}


def fate(outcomes: Outcomes, name: str) -> Fate:
    """What became of the setting `name`."""
    return next(outcome.fate for outcome in outcomes.found if outcome.name == name)


def command(*arguments: str, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `starman-uv gunicorn` with these arguments to its end."""
    path = os.pathsep.join(part for part in (str(Path(__file__).parents[3]), os.environ.get("PYTHONPATH", "")) if part)
    kept = {name: value for name, value in os.environ.items() if name not in ("PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS")}
    return subprocess.run(
        [sys.executable, "-m", "starman", "gunicorn", *arguments],
        cwd=cwd,
        env={**kept, "PYTHONPATH": path, "PWD": str(cwd), **(env or {})},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
