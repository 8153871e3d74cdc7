"""`starman-uv report`: everything that a bug report needs, in one text."""

from __future__ import annotations

import json
import os
import platform
import sys

from starman.commands.client import CommandError
from starman.commands.stacks_text import stacks_text
from starman.commands.status_table import status_text, table
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.commands.client import Client

# How much of the log is included (bytes, from the end).
LOG_BYTES = 65_536
_PACKAGES = ("uvloop", "httptools", "anyio", "flask", "django", "gunicorn")


def bug_report(client: Client) -> str:
    """The text. A part that cannot be had says why."""
    parts = [("Versions", _versions), ("Settings that are not defaults", lambda: _settings(client))]
    parts += [("Status", lambda: _status(client)), ("Stacks", lambda: stacks_text(client.request("stacks")["processes"]))]
    parts += [("Error log, the last lines", lambda: _log(client))]
    return "\n\n".join(f"== {title}\n\n{_part(make)}" for title, make in parts) + "\n"


def _part(make: Callable[[], str]) -> str:
    try:
        return make()
    except CommandError as error:
        return f"not available: {error}"


def _versions() -> str:
    from importlib import metadata

    lines = [f"starman {VERSION}", f"Python {sys.version}", platform.platform()]
    for name in _PACKAGES:
        try:
            lines.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return "\n".join(lines)


def _settings(client: Client) -> str:
    return "\n".join(table((), client.request("settings")["settings"])) or "none"


def _status(client: Client) -> str:
    status = client.request("status")["status"]
    return f"{status_text(status)}\n\n{json.dumps(status, indent=1)}"


def _log(client: Client) -> str:
    path = client.request("settings")["error_log"]
    if path is None:
        return "the error log is not a file"
    try:
        with open(path, "rb") as file:
            file.seek(max(0, os.path.getsize(path) - LOG_BYTES))
            return file.read(LOG_BYTES).decode("utf-8", "replace").rstrip()
    except OSError as error:
        return f"cannot read {path}: {error.strerror}"
