"""Gathers the values of settings from where they may be written, and merges them by precedence into `Settings`.

Precedence: command line (or keyword arguments of `run`) > STARMAN_* variables > file > default. Knows no setting by
name but those that stand in for each other. Imported by the master: argparse and tomllib are imported when needed.
"""

from __future__ import annotations

import enum
import os

from .declaration import SETTINGS, Given, Setting, nearest
from .errors import SettingError
from .settings import Settings

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from typing import NoReturn

    Layer = dict[str, Given]

PREFIX = "STARMAN_"
FILE_NAME = "starman.toml"
PROJECT_FILE_NAME = "pyproject.toml"

# Settings that answer the same question. Whoever answers it in one way puts aside what lower sources answered in another.
ALTERNATIVES = (
    (("app",), ("eval",)),
    (("listen",), ("socket",), ("host", "port")),
)


class Action(enum.Enum):
    """What the command line asks for."""

    SERVE = "serve"
    CHECK = "--check"
    PRINT_CONFIG = "--print-config"
    HELP = "--help"
    VERSION = "--version"


class CommandLine:
    """An argv, understood: the action, the file that --config names (None: look for one), the settings given."""

    __slots__ = ("action", "config", "given")

    def __init__(self, action: Action, config: str | None, given: Layer) -> None:
        self.action = action
        self.config = config
        self.given = given


def from_command_line(line: CommandLine, environ: Mapping[str, str], directory: str) -> Settings:
    """The settings of a server started by `starman-uv`; `directory` is the working directory. Raises SettingError."""
    return Settings(merge([line.given, from_environment(environ), from_file(line.config, directory)]))


def from_keywords(app: object, keywords: Mapping[str, object], environ: Mapping[str, str], directory: str) -> Settings:
    """The settings of `run(app, **keywords)`: keywords > environment > file > default. Raises SettingError.

    `app` is the text of the `app` setting, None when it is not given, or the application itself: the application of
    lower sources is then put aside and `settings.app` is None.
    """
    given = {name: Given(value, f"run({name}=...)") for name, value in keywords.items()}
    if app is not None:
        given["app"] = Given(app if isinstance(app, str) else None, "run(app)")
    return Settings(merge([given, from_environment(environ), from_file(None, directory)]))


def merge(layers: Sequence[Layer]) -> Layer:
    """One layer out of several, the most important first. See `ALTERNATIVES` for what else gives way."""
    merged: Layer = {}
    for layer in reversed(layers):
        for sides in ALTERNATIVES:
            if any(name in layer for side in sides for name in side):
                for side in sides:
                    if not any(name in layer for name in side):
                        for name in side:
                            merged.pop(name, None)
        merged.update(layer)
    return merged


def from_environment(environ: Mapping[str, str]) -> Layer:
    """The STARMAN_* variables. An empty one counts as not set; repeatable settings are split at commas.

    Raises SettingError for a STARMAN_* variable that is no setting.
    """
    known = {setting.variable: setting for setting in SETTINGS.values()}
    layer = {}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        setting = known.get(variable)
        if setting is None:
            raise SettingError(f"{variable}: no setting has this variable{nearest(variable, known)}")
        value = environ[variable]
        if value:
            items = [item.strip() for item in value.split(",") if item.strip()]
            layer[setting.name] = Given(items if setting.repeatable else value, variable)
    return layer


def from_file(config: str | None, directory: str) -> Layer:
    """The settings of one TOML file: `config` if given, else starman.toml, else [tool.starman] of pyproject.toml, in `directory`.

    A file called pyproject.toml has its settings in [tool.starman], any other at its top. Raises SettingError for a
    file that is missing (if given), cannot be read, or is no TOML, and for a key that is no setting.
    """
    if config is not None:
        return _from_toml(config, os.path.join(directory, config))
    for name in (FILE_NAME, PROJECT_FILE_NAME):
        path = os.path.join(directory, name)
        # Many projects have a pyproject.toml that says nothing to us: it is not parsed then, nor is tomllib imported.
        if os.path.isfile(path) and (name == FILE_NAME or b"starman" in _read(name, path)):
            layer = _from_toml(name, path)
            if layer or name == FILE_NAME:
                return layer
    return {}


def _read(name: str, path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise SettingError(f"--config: there is no file {name!r}") from None
    except OSError as error:
        raise SettingError(f"{name}: cannot be read: {error.strerror}") from None


def _from_toml(name: str, path: str) -> Layer:
    table, place = _table(name, path)
    layer: Layer = {}
    for key, value in table.items():
        setting = SETTINGS.get(key.replace("-", "_"))
        if setting is None:
            raise SettingError(f"{name}: no setting is called {place + key!r}{nearest(key.replace('-', '_'), SETTINGS)}")
        if setting.name in layer:
            raise SettingError(f"{name}: {place + setting.name!r} is there twice, with - and with _")
        layer[setting.name] = Given(value, f"{name}: {place}{key}")
    return layer


def _table(name: str, path: str) -> tuple[dict[str, object], str]:
    """The table of settings in a file, and what to write before its keys."""
    import tomllib

    try:
        text = _read(name, path).decode()
        document: dict[str, object] = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingError(f"{name}:{line}: is no TOML: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{name}:{_line(str(error), text)}: is no TOML: {error}") from None
    if os.path.basename(name) != PROJECT_FILE_NAME:
        return document, ""
    tool = document.get("tool", {})
    table = tool.get("starman", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise SettingError(f"{name}: tool.starman must be a table")
    return table, "tool.starman."


def _line(message: str, text: str) -> int:
    """The line that a TOMLDecodeError means: it says "(at line 3, column 5)" or "(at end of document)"."""
    _, _, place = message.rpartition("(at line ")
    digits = place.partition(",")[0]
    return int(digits) if digits.isdigit() else text.rstrip("\n").count("\n") + 1


def from_arguments(argv: Sequence[str]) -> CommandLine:
    """Understand an argv (without the program's name). Raises SettingError; prints nothing."""
    parser = _parser()
    namespace, rest = parser.parse_known_args(list(argv))
    for argument in rest:
        if argument.startswith("-") and argument != "-":
            flag = argument.partition("=")[0]
            raise SettingError(f"{flag}: there is no such option{nearest(flag, flags())}; --help lists them")
    arguments = vars(namespace)
    if rest:
        raise SettingError(f"{rest[0]!r}: one application at a time, and {arguments.get('app')!r} is one already")
    action = arguments.pop("action", Action.SERVE)
    config = arguments.pop("config", None)
    given = {name: Given(arguments[name], _source(SETTINGS[name], arguments[name])) for name in SETTINGS if name in arguments}
    return CommandLine(action, config, given)


def flags() -> list[str]:
    """Every flag of the command line."""
    known = ["--config", "--print-config", "--check", "-h", "--help", "-v", "--version"]
    for setting in SETTINGS.values():
        if not setting.positional:
            known += setting.all_flags
        if setting.boolean:
            known.append(off_flag(setting))
    return known


def off_flag(setting: Setting) -> str:
    """The flag that turns a boolean setting off."""
    return "--no-" + setting.flag.removeprefix("--")


def _source(setting: Setting, value: object) -> str:
    return off_flag(setting) if setting.boolean and not value else setting.flag


def _parser() -> argparse.ArgumentParser:
    """A parser that stores text as it is, has no help of its own (`cli.py` writes it), and raises."""
    import argparse

    class Parser(argparse.ArgumentParser):
        def error(self, message: str) -> NoReturn:
            raise SettingError(f"{message.removeprefix('argument ')}; --help lists the options")

    parser = Parser(prog="starman-uv", add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config")
    actions = parser.add_mutually_exclusive_group()
    for action, names in (
        (Action.PRINT_CONFIG, ["--print-config"]),
        (Action.CHECK, ["--check"]),
        (Action.HELP, ["-h", "--help"]),
        (Action.VERSION, ["-v", "--version"]),
    ):
        actions.add_argument(*names, dest="action", action="store_const", const=action)
    for name, setting in SETTINGS.items():
        if setting.positional:
            parser.add_argument(name, nargs="?")
        elif setting.boolean:
            parser.add_argument(*setting.all_flags, dest=name, action="store_const", const=True)
            parser.add_argument(off_flag(setting), dest=name, action="store_const", const=False)
        else:
            how = "append" if setting.repeatable else "store"
            parser.add_argument(*setting.all_flags, dest=name, action=how)
    return parser
