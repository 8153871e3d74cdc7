"""Resolves gunicorn's settings: defaults, the configuration file, GUNICORN_CMD_ARGS and the command line, in this
order.

A configuration file is a Python module. Executing it may import anything, start threads and change the process, so it
runs in a child (`configuration_reader`), never in the master.
"""

from __future__ import annotations

import os
import sys

from starman.errors import StarmanError
from starman.gunicorn import stand_in
from starman.gunicorn.command_line import VARIABLE, Arguments, parse_arguments, parse_variable
from starman.gunicorn.green_patches import left_out
from starman.gunicorn.known_settings import KNOWN_SETTINGS
from starman.gunicorn.mapping.tables import ARGUMENTS
from starman.gunicorn.misspelt_settings import misspelt
from starman.gunicorn.value_kinds import check_arguments
from starman.gunicorn.workers.surroundings import VARIABLE as SERVER_SOFTWARE_VARIABLE
from starman.loading import application_traceback
from starman.log.tracebacks import exception_line

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

DEFAULT_FILE = "gunicorn.conf.py"
DEFAULT = "gunicorn's default"
# The variables that replace defaults: of which setting, and the value that they stand for.
PLATFORM_DEFAULTS = {
    "PORT": ("bind", "0.0.0.0:{}"),
    "WEB_CONCURRENCY": ("workers", "{}"),
    "FORWARDED_ALLOW_IPS": ("forwarded_allow_ips", "{}"),
}
MODULE_NAME = "__config__"


class ConfigurationError(StarmanError):
    """The configuration file fails, or a value in it is invalid. gunicorn exits with the same status."""

    exit_status = 1


class Value:
    """The value of one setting. source: "--workers", "gunicorn.conf.py: workers", DEFAULT. unusable: why the variable
    of the platform that is the source has no valid value; then `value` is gunicorn's default. "" for all others."""

    __slots__ = ("source", "unusable", "value")

    def __init__(self, value: object, source: str, unusable: str = "") -> None:
        self.value = value
        self.source = source
        self.unusable = unusable

    @property
    def given(self) -> bool:
        """Whether it was given, rather than being the default."""
        return self.source != DEFAULT


class Resolved:
    """All settings of gunicorn, with their values.

    application: the application on the command line; None if it names none. environment: the variables that the
    configuration file has set. removed: those that it has removed. paths: the directories that it has added to
    sys.path. notes: warnings. server_field: the Server field that it has chosen by changing gunicorn.SERVER or the
    like; None if it has not. script_name: the path under which the application is, by the environment variable
    SCRIPT_NAME; "" for none.
    """

    __slots__ = (
        "application",
        "arguments",
        "environment",
        "notes",
        "paths",
        "removed",
        "script_name",
        "server_field",
        "values",
    )

    def __init__(self, arguments: Arguments, values: dict[str, Value]) -> None:
        self.arguments = arguments
        self.application = arguments.words[0] if arguments.words else None
        self.values = values
        self.environment: dict[str, str] = {}
        self.removed: list[str] = []
        self.paths: list[str] = []
        self.server_field: str | None = None
        self.script_name = ""
        self.notes: list[str] = []

    def value(self, name: str) -> object:
        """The value of the setting `name`."""
        return self.values[name].value

    def number(self, name: str) -> int:
        """The value of a setting that is a whole number."""
        value = self.value(name)
        assert isinstance(value, int), name
        return value

    def texts(self, name: str) -> list[str]:
        """The value of a setting that is a list of texts."""
        value = self.value(name)
        assert isinstance(value, list), name
        return value

    @property
    def python_path(self) -> list[str]:
        """The directories of the setting `pythonpath`, as they are given."""
        return [path for path in str(self.value("pythonpath") or "").split(",") if path]

    @property
    def module_directories(self) -> list[str]:
        """Where modules of the application are found, besides sys.path."""
        return [*self.python_path, str(self.value("chdir") or os.getcwd())]

    def is_default(self, name: str) -> bool:
        """Whether the value is gunicorn's default, even if it was given."""
        known = KNOWN_SETTINGS[name]
        return self.value(name) == (None if known.default is None else known.kind.read(known.default))


def resolve(argv: Sequence[str], environ: Mapping[str, str]) -> Resolved:
    """Resolve the settings of a command line. Executes the configuration file in this process, in its working
    directory.

    Raises SettingError for a wrong command line, and ConfigurationError.
    """
    arguments = parse_arguments(argv)
    resolved = Resolved(arguments, _defaults(environ))
    if arguments.help or arguments.version:
        return resolved
    if len(arguments.words) > 1:
        resolved.notes.append(f"only {arguments.words[0]} is served: {' '.join(arguments.words[1:])} is ignored")
    variable = parse_variable(environ.get(VARIABLE, ""))
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    location = arguments.given.get("config") or variable.given.get("config")
    if location is None and os.path.exists(os.path.join(here, DEFAULT_FILE)):
        location = os.path.join(here, DEFAULT_FILE)
    if location is not None:
        _take_file(resolved, str(location))
    for given, prefix in ((variable.given, f"{VARIABLE}: "), (arguments.given, "")):
        for name, value in given.items():
            _set(resolved, name, value, f"{prefix}{KNOWN_SETTINGS[name].flags[-1]}")
    resolved.script_name = _script_name(resolved, environ)
    return resolved


def _script_name(resolved: Resolved, environ: Mapping[str, str]) -> str:
    """The variable SCRIPT_NAME as a worker of gunicorn has it: raw_env counts before the environment, which the
    configuration file may have changed."""
    texts = resolved.value("raw_env")
    assert isinstance(texts, list)
    given = dict(text.partition("=")[::2] for text in texts)
    return str(given.get("SCRIPT_NAME", environ.get("SCRIPT_NAME", "")))


def _defaults(environ: Mapping[str, str]) -> dict[str, Value]:
    """The defaults of all settings. PORT, WEB_CONCURRENCY and FORWARDED_ALLOW_IPS replace three of them. Their values
    may be unusable, which matters only if no other source gives the setting: Kubernetes sets PORT for a Service."""
    values = {}
    for name, setting in KNOWN_SETTINGS.items():
        default = None if setting.default is None else setting.kind.read(setting.default)
        values[name] = Value(default, DEFAULT)
    for variable, (name, form) in PLATFORM_DEFAULTS.items():
        if variable in environ:
            try:
                values[name] = Value(KNOWN_SETTINGS[name].kind.read(form.format(environ[variable])), variable)
            except (ValueError, TypeError) as error:
                unusable = f"{variable}: invalid value {environ[variable]!r}: {error}"
                values[name] = Value(values[name].value, variable, unusable)
    return values


def _set(resolved: Resolved, name: str, value: object, source: str) -> None:
    try:
        read = KNOWN_SETTINGS[name].kind.read(value)
        if name in ARGUMENTS:
            check_arguments(read, ARGUMENTS[name])
        resolved.values[name] = Value(read, source)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{source}: invalid value {value!r}: {error}") from None


def _take_file(resolved: Resolved, location: str) -> None:
    """Execute the configuration at `location`, and take over its values and what it changes in the process."""
    environment, paths = dict(os.environ), list(sys.path)
    place = location.removeprefix("file:")
    shown = os.path.relpath(place) if os.path.isabs(place) and place.startswith(os.getcwd() + os.sep) else place
    names = execute(location)
    for name, value in names.items():
        if name in KNOWN_SETTINGS:
            _set(resolved, name, value, f"{shown}: {name}")
        elif meant := misspelt(name, value):
            resolved.notes.append(f"{shown}: {name} is no setting of gunicorn and has no effect; did you mean {meant}?")
    # gunicorn sets SERVER_SOFTWARE after the file.
    changed = {name: value for name, value in os.environ.items() if environment.get(name) != value}
    resolved.environment = {name: value for name, value in changed.items() if name != SERVER_SOFTWARE_VARIABLE}
    resolved.removed = [name for name in environment if name not in os.environ]
    resolved.server_field = stand_in.server_field()
    resolved.paths = [os.path.abspath(path) for path in sys.path if path not in paths]


def execute(location: str) -> dict[str, object]:
    """Execute a configuration, PATH, file:PATH or python:MODULE, and return its names. Raises ConfigurationError.

    `import gunicorn` gives the stand-in, and patches of gevent have no effect. SystemExit of the configuration is
    raised again, with its status.
    """
    stand_in.install()
    try:
        with left_out():
            if location.startswith("python:"):
                import importlib

                return dict(vars(importlib.import_module(location.removeprefix("python:"))))
            return _execute_file(location.removeprefix("file:"))
    except (StarmanError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        details = application_traceback(error)
        raise ConfigurationError(f"cannot read the configuration {location}: {exception_line(error)}", details) from None


def _execute_file(path: str) -> dict[str, object]:
    import importlib.machinery
    import importlib.util

    if not os.path.exists(path):
        raise ConfigurationError(f"cannot read the configuration: {path!r} does not exist")
    # Any: mypy wants load_module, which 3.15 has not.
    loader: Any = importlib.machinery.SourceFileLoader(MODULE_NAME, os.path.abspath(path))
    spec = importlib.util.spec_from_file_location(MODULE_NAME, path, loader=None if path.endswith((".py", ".pyc")) else loader)
    if spec is None or spec.loader is None:
        raise ConfigurationError(f"cannot read the configuration: {path!r} is no file of Python")
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    spec.loader.exec_module(module)
    return dict(vars(module))
