"""Reads settings from the command line, the environment and the settings file, and merges them into `Settings`.

Precedence: command line (or keyword arguments of `run`) > STARMAN_* variables > file > PORT, WEB_CONCURRENCY
and FORWARDED_ALLOW_IPS > default. The master imports this module, so tomllib is imported only to read a file.
"""

from __future__ import annotations

import enum
import errno
import os
import select
import stat

from starman.config.option import OPTIONS, GivenValue, Option, nearest
from starman.config.platform_variables import from_platform
from starman.config.service_links import is_service_link
from starman.config.settings import Settings
from starman.errors import SettingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Layer = dict[str, GivenValue]

PREFIX = "STARMAN_"
FILE_NAME = "starman.toml"
PROJECT_FILE_NAME = "pyproject.toml"

# How long (seconds) the reader of a FIFO given by --config waits for its writer.
_FIFO_SECONDS = 5
# The largest settings file (bytes): its contents are passed to other processes at a restart.
_LARGEST_FILE = 4 * 1024 * 1024

# Settings that do the same job override each other: a source that gives one of them removes the others that sources
# of lower precedence give.
ALTERNATIVES = (
    (("app",), ("eval",)),
    (("listen",), ("socket",), ("host", "port")),
)


class Action(enum.Enum):
    """What the command does."""

    SERVE = "serve"
    CHECK = "--check"
    PRINT_CONFIG = "--print-config"
    HELP = "--help"
    VERSION = "--version"


class CommandLine:
    """A parsed command line: the action, the file of --config (None: look for one), and the settings given."""

    __slots__ = ("action", "config", "given")

    def __init__(self, action: Action, config: str | None, given: Layer) -> None:
        self.action = action
        self.config = config
        self.given = given


def from_command_line(line: CommandLine, environ: Mapping[str, str], directory: str) -> Settings:
    """The settings of a server started by `starman-uv`; `directory` is the working directory. Raises SettingError."""
    return Settings(merge([line.given, *_layers_below(line.config, environ, directory)]))


def from_keywords(app: object, keywords: Mapping[str, object], environ: Mapping[str, str], directory: str) -> Settings:
    """The settings of `run(app, **keywords)`: keywords, then as `from_command_line`. Raises
    SettingError.

    `app`: the text of the `app` setting; Ellipsis: not given; or the application itself, which overrides the
    application of other sources: `settings.app` is None then.
    """
    if app is None:  # not taken for "not given": the directory may hold another application
        raise SettingError("run(app): the application is None; a factory may have no return. To look for one, give no app")
    if not (app is ... or isinstance(app, str) or callable(app)):
        raise SettingError(f"run(app): {app!r} is neither a WSGI application (a callable) nor the name of one")
    given = {name: GivenValue(value, f"run({name}=...)") for name, value in keywords.items()}
    if app is not ...:
        given["app"] = GivenValue(app if isinstance(app, str) else None, "run(app)")
    return Settings(merge([given, *_layers_below(None, environ, directory)]))


def _layers_below(config: str | None, environ: Mapping[str, str], directory: str) -> list[Layer]:
    """The layers below the command line or the keywords."""
    return [from_environment(environ), from_file(config, directory), from_platform(environ)]


def merge(layers: Sequence[Layer]) -> Layer:
    """Merge layers, the one of highest precedence first. See also `ALTERNATIVES`."""
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
    """The settings in STARMAN_* variables. An empty variable counts as not set; repeatable settings are split at
    commas.

    Service links of Kubernetes are left out. Raises SettingError for any other unknown STARMAN_* variable.
    """
    known = {setting.variable: setting for setting in OPTIONS.values()}
    layer = {}
    for variable in sorted(name for name in environ if name.startswith(PREFIX)):
        if is_service_link(variable, environ[variable]):
            continue
        setting = known.get(variable)
        if setting is None:
            raise SettingError(f"{variable}: unknown variable{nearest(variable, known)}")
        value = environ[variable]
        if value:
            items = [item.strip() for item in value.split(",") if item.strip()]
            layer[setting.name] = GivenValue(items if setting.repeatable else value, variable)
    return layer


def from_file(config: str | None, directory: str) -> Layer:
    """The settings of one TOML file: `config` if given, else starman.toml, else [tool.starman] of pyproject.toml, in
    `directory`.

    A file named pyproject.toml has its settings in [tool.starman], any other file at its top level. Raises
    SettingError for a file that was given and is missing, cannot be read, or is not valid TOML, and for an unknown
    key.
    """
    if config is not None:
        if config.endswith(".py"):
            raise SettingError(
                f"--config: {config!r} is a file of Python, and --config takes TOML; for a configuration of gunicorn, run: "
                f"starman-uv gunicorn -c {config} …"
            )
        return _from_toml(config, os.path.join(directory, config))
    for name in (FILE_NAME, PROJECT_FILE_NAME):
        path = os.path.join(directory, name)
        # A pyproject.toml without settings for starman is not parsed, and tomllib is not imported.
        if os.path.isfile(path) and (name == FILE_NAME or b"starman" in _read(name, path)):
            layer = _from_toml(name, path)
            if layer or name == FILE_NAME:
                return layer
    return {}


def _read(name: str, path: str) -> bytes:
    try:
        with open(_opened(path), "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise SettingError(f"--config: no such file: {name!r}") from None
    except OSError as error:
        raise SettingError(f"{name}: cannot read the file: {error.strerror}") from None


def _opened(path: str) -> int:
    """Open a settings file. Raises OSError for a FIFO, such as <(...) of a shell, that no process writes to within 5
    s."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            poll = select.poll()
            poll.register(fd, select.POLLIN)
            if not poll.poll(_FIFO_SECONDS * 1000):
                raise OSError(errno.ENXIO, f"no process wrote to this FIFO within {_FIFO_SECONDS} s")
        os.set_blocking(fd, True)
    except OSError:
        os.close(fd)
        raise
    return fd


def _from_toml(name: str, path: str) -> Layer:
    table, place = _table(name, path)
    layer: Layer = {}
    for key, value in table.items():
        setting = OPTIONS.get(key.replace("-", "_"))
        if setting is None:
            raise SettingError(f"{name}: unknown setting {place + key!r}{nearest(key.replace('-', '_'), OPTIONS)}")
        if setting.name in layer:
            raise SettingError(f"{name}: {place + setting.name!r} is given twice, with - and with _; keep one")
        layer[setting.name] = GivenValue(value, f"{name}: {place}{key}")
    return layer


def _table(name: str, path: str) -> tuple[dict[str, object], str]:
    """The table of settings in a file, and the prefix of its keys for messages."""
    import tomllib

    try:
        data = _read(name, path)
        if len(data) > _LARGEST_FILE:
            raise SettingError(f"{name}: the file is larger than {_LARGEST_FILE} bytes, the limit for a settings file")
        text = data.decode()
        document: dict[str, object] = tomllib.loads(text)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise SettingError(f"{name}:{line}: invalid TOML: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise SettingError(f"{name}:{_line(str(error), text)}: invalid TOML: {error}") from None
    except ValueError:  # of int(), which takes no more than 4300 digits
        raise SettingError(f"{name}: a number is too large") from None
    if os.path.basename(name) != PROJECT_FILE_NAME:
        return document, ""
    tool = document.get("tool", {})
    table = tool.get("starman", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        raise SettingError(f"{name}: tool.starman must be a table")
    return table, "tool.starman."


def _line(message: str, text: str) -> int:
    """The line number in the message of a TOMLDecodeError: "(at line 3, column 5)" or "(at end of document)"."""
    _, _, place = message.rpartition("(at line ")
    digits = place.partition(",")[0]
    return int(digits) if digits.isdigit() else text.rstrip("\n").count("\n") + 1


def from_arguments(argv: Sequence[str]) -> CommandLine:
    """Parse a command line (without the name of the program), by the conventions of GNU. Raises SettingError; prints
    nothing.

    Not with argparse, which would take 1.4 MB of the master for as long as the server runs.
    """
    options = _flags()
    line = CommandLine(Action.SERVE, None, {})
    words = iter(argv)
    for word in words:
        if word == "--":
            for application in words:
                _take_application(line, application)
        elif word == "-" or not word.startswith("-"):
            _take_application(line, word)
        else:
            flag, value = _split(word, options)
            option = options.get(flag)
            if option is None:
                raise _unknown_option(flag, options)
            if option.takes_value and value is None:
                value = next(words, None)
                if value is None or (value != "-" and value.partition("=")[0] in options):
                    raise SettingError(f"{flag}: its value is missing; --help lists the options")
            elif not option.takes_value and value is not None:
                raise SettingError(f"{flag}: takes no value, but {value!r} is given; --help lists the options")
            option.store_value(line, value)
    return line


def _unknown_option(flag: str, options: Mapping[str, _Flag]) -> SettingError:
    """The error for a flag that does not exist, with what may have been meant."""
    from starman.config.other_servers import advice

    found = advice(flag, options)
    # A short flag is similar to every other one.
    meant = f"; {found}" if found else nearest(flag, options) if flag.startswith("--") else ""
    return SettingError(f"{flag}: unknown option{meant}; --help lists the options")


class _Flag:
    """What a flag of the command line means: an action, the settings file, or a setting."""

    __slots__ = ("flag", "meaning", "takes_value", "value")

    def __init__(self, flag: str, meaning: Action | Option | None, value: bool | None = None) -> None:
        """`meaning` None: --config. `value`: the value that a boolean flag gives."""
        self.flag = flag
        self.meaning = meaning
        self.value = value
        self.takes_value = meaning is None or (isinstance(meaning, Option) and not meaning.boolean)

    def store_value(self, line: CommandLine, value: str | None) -> None:
        """Note in `line` that the flag was given, with `value` if it takes one. Raises SettingError."""
        meaning = self.meaning
        if meaning is None:
            line.config = value
        elif isinstance(meaning, Action):
            if line.action not in (Action.SERVE, meaning):
                raise SettingError(f"{self.flag}: cannot be combined with {line.action.value}; --help lists the options")
            line.action = meaning
        elif meaning.boolean:
            line.given[meaning.name] = GivenValue(self.value, self.flag)
        elif meaning.repeatable and meaning.name in line.given:
            line.given[meaning.name] = GivenValue([*line.given[meaning.name].value, value], self.flag)  # type: ignore[misc]
        else:
            if meaning.name == "admin_listen" and meaning.name in line.given:
                # Of other options the last one counts, as usual; this one looks as if it could be repeated.
                raise SettingError(f"{self.flag}: given twice; the server has one admin address")
            line.given[meaning.name] = GivenValue([value] if meaning.repeatable else value, self.flag)


def _split(word: str, options: Mapping[str, _Flag]) -> tuple[str, str | None]:
    """Split a word that begins with a dash into the flag and a value in the same word (--flag=value, -fvalue)."""
    if word.startswith("--"):
        flag, equals, value = word.partition("=")
        return flag, value if equals else None
    if word[:2] in options and len(word) > 2:
        return word[:2], word[2:].removeprefix("=")
    return word, None


def _take_application(line: CommandLine, word: str) -> None:
    if "app" in line.given:
        raise SettingError(f"{word!r}: only one application can be served, and {line.given['app'].value!r} is given already")
    line.given["app"] = GivenValue(word, OPTIONS["app"].flag)


def _flags() -> dict[str, _Flag]:
    """Every flag of the command line."""
    options = {"--config": _Flag("--config", None)}
    for action in Action:
        if action is not Action.SERVE:
            options[action.value] = _Flag(action.value, action)
    options["-h"], options["-v"] = options[Action.HELP.value], options[Action.VERSION.value]
    for setting in OPTIONS.values():
        if not setting.positional:
            options |= {flag: _Flag(setting.flag, setting, True if setting.boolean else None) for flag in setting.all_flags}
        if setting.boolean:
            options[negative_flag(setting)] = _Flag(negative_flag(setting), setting, False)
    return options


def flags() -> list[str]:
    """Every flag of the command line."""
    return list(_flags())


def negative_flag(setting: Option) -> str:
    """The flag that turns a boolean setting off."""
    return "--no-" + setting.flag.removeprefix("--")
