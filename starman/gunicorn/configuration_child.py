"""In the child: reads the configuration of gunicorn, maps it, and answers with the settings of starman as plain
data."""

from __future__ import annotations

import os
import sys

from starman.config.revision import encode_settings
from starman.config.settings import Settings
from starman.config.sources import from_environment, merge
from starman.errors import SettingError, StarmanError
from starman.gunicorn import CHECK, DONE, SERVE
from starman.gunicorn.command_line import help_text
from starman.gunicorn.configuration import ConfigurationError, resolve
from starman.gunicorn.mapping.map_settings import map_settings
from starman.gunicorn.print_config import table, toml
from starman.log.tracebacks import safe_text
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from starman.gunicorn.configuration import Resolved
    from starman.gunicorn.mapping.outcomes import Outcomes

# As a shell reports a command that SIGINT ended: 128 + 2.
INTERRUPTED = 130


def answer(argv: Sequence[str]) -> dict[str, object]:
    """Read, map, print what is requested, and return what `configuration_reader` expects. The working directory is
    that of the start. Never raises StarmanError."""
    try:
        return _answer(argv)
    except StarmanError as error:
        return _answered(DONE, error=str(error), details=error.details, status=error.exit_status)
    except SystemExit as error:
        return _left(error)
    except KeyboardInterrupt:
        return _answered(DONE, error="the configuration was interrupted (KeyboardInterrupt)", status=INTERRUPTED)


def _answer(argv: Sequence[str]) -> dict[str, object]:
    resolved = resolve(argv, os.environ)
    arguments = resolved.arguments
    if arguments.help or arguments.version:
        print(help_text() if arguments.help else f"starman {VERSION} (in place of gunicorn)")
        return _answered(DONE)
    outcomes = _mapped(resolved)
    printing = bool(resolved.value("print_config"))
    if printing:
        print(table(outcomes))
        sys.stdout.flush()
    if outcomes.refusals:
        raise ConfigurationError(outcomes.refusals[0], "\n".join(f"starman: {line}" for line in outcomes.refusals[1:]))
    chosen = merge([outcomes.given, from_environment(os.environ), outcomes.defaults])
    for value in resolved.values.values():
        if value.unusable and any(given.source == value.source for given in chosen.values()):
            raise ConfigurationError(value.unusable)
    try:
        settings = Settings(chosen)
    except SettingError as error:
        raise ConfigurationError(str(error), error.details) from None
    if arguments.to_toml:
        for line in outcomes.warnings:
            print(f"starman: {line}", file=sys.stderr)
        written = toml(outcomes)
        print(written.text)
        if written.missing:
            raise ConfigurationError(f"the settings above are incomplete: {written.missing}")
        return _answered(DONE)
    action = CHECK if printing or resolved.value("check_config") else SERVE
    return _answered(action, settings=encode_settings(settings), notes=outcomes.warnings)


def _mapped(resolved: Resolved) -> Outcomes:
    try:
        return map_settings(resolved)
    except SettingError as error:  # starman does not take the value
        raise ConfigurationError(str(error), error.details) from None


def _answered(action: str, **parts: object) -> dict[str, object]:
    empty: dict[str, object] = {"settings": "", "notes": [], "status": 0, "error": None, "details": ""}
    return {"action": action, **empty, **parts}


def _left(error: SystemExit) -> dict[str, object]:
    """The answer after `sys.exit` in the configuration: with the status, and the text, with which Python would have
    ended the process."""
    how = "the configuration has ended its process by sys.exit"
    if error.code is None or isinstance(error.code, int):
        code = error.code or 0
        # As a process exits: with the lowest byte of the number.
        return _answered(DONE, error=f"{how}({code})", status=code & 0xFF)
    first, _, rest = safe_text(error.code).partition("\n")
    return _answered(DONE, error=f"{how}: {first}", details=rest, status=1)
