"""Parses a command line of gunicorn, and GUNICORN_CMD_ARGS, with all spellings and abbreviations.

By argparse, as gunicorn does, so that abbreviations and repeated options mean the same. Runs in the child that
executes the configuration.
"""

from __future__ import annotations

import argparse
import shlex

from starman.config.option import nearest
from starman.config.other_servers import RENAMED
from starman.errors import SettingError
from starman.gunicorn.known_settings import KNOWN_SETTINGS, KnownSetting
from starman.gunicorn.value_kinds import BINDS, FILES, FLAG, NUMBER, OCTAL, PROXY_PROTOCOL, TEXTS, read_octal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

COMMAND = "starman-uv gunicorn"
VARIABLE = "GUNICORN_CMD_ARGS"
USAGE = f"{COMMAND} [OPTION]... [MODULE:APPLICATION]"
ABOUT = """\
Serve an application with starman by the options, variables and configuration file of gunicorn.
docs/coming-from-gunicorn.md says what each setting becomes.
"""


class Arguments:
    """A parsed command line.

    words: what is no option; the first names the application. given: the values of the settings, by name. help,
    version, to_toml: whether these are requested.
    """

    __slots__ = ("given", "help", "to_toml", "version", "words")

    def __init__(self, found: dict[str, object]) -> None:
        words = found.pop("words")
        assert isinstance(words, list)
        self.words: list[str] = words
        self.help = bool(found.pop("help"))
        self.version = bool(found.pop("version"))
        self.to_toml = bool(found.pop("to_toml"))
        self.given = {name: value for name, value in found.items() if value is not None}


def parse_arguments(argv: Sequence[str]) -> Arguments:
    """Parse a command line, without the words `starman-uv gunicorn`. Raises SettingError."""
    return Arguments(vars(_parser().parse_args(list(argv))))


def parse_variable(text: str) -> Arguments:
    """Parse the contents of GUNICORN_CMD_ARGS. Raises SettingError."""
    try:
        return parse_arguments(shlex.split(text))
    except (SettingError, ValueError) as error:
        raise SettingError(f"{VARIABLE}: {error}") from None


def help_text() -> str:
    """The text of --help."""
    return _parser().format_help().rstrip("\n")


class _Parser(argparse.ArgumentParser):
    """Raises SettingError where argparse would print and exit."""

    def error(self, message: str) -> NoReturn:
        raise SettingError(f"{message}{self._meant(message)}; {COMMAND} --help lists the options")

    def _meant(self, message: str) -> str:
        """The end of an error about an option that does not exist: what may have been meant."""
        _, unrecognized, words = message.partition("unrecognized arguments: ")
        word = words.partition(" ")[0].partition("=")[0]
        if not unrecognized or not word.startswith("--"):
            return ""
        names = [name for name, own in RENAMED["gunicorn"].items() if own == word and name.startswith("--")]
        return f"; did you mean {names[0]!r}?" if names else nearest(word, self._option_string_actions)


def _parser() -> _Parser:
    parser = _Parser(prog=COMMAND, usage=USAGE, description=ABOUT, add_help=False)
    parser.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    parser.add_argument("-h", "--help", action="store_true", help="print this help and exit")
    parser.add_argument("-v", "--version", action="store_true", help="print the version of starman and exit")
    parser.add_argument("--to-toml", action="store_true", help="print the configuration as settings of starman, and exit")
    for setting in KNOWN_SETTINGS.values():
        if setting.flags:
            _add(parser, setting)
    return parser


def _add(parser: _Parser, setting: KnownSetting) -> None:
    """Add the options of one setting."""
    kind, flags = setting.kind, setting.flags
    text = f"the setting {setting.name} of gunicorn"
    if setting.name == "sendfile":
        parser.add_argument(*flags, dest=setting.name, action="store_const", const=False, help=text)
    elif kind is FLAG:
        parser.add_argument(*flags, dest=setting.name, action="store_true", default=None, help=text)
    elif kind in (BINDS, TEXTS, FILES):
        parser.add_argument(*flags, dest=setting.name, action="append", metavar=kind.metavar, help=text)
    elif kind is PROXY_PROTOCOL:
        parser.add_argument(*flags, dest=setting.name, nargs="?", const="auto", metavar=kind.metavar, help=text)
    elif kind is OCTAL:
        parser.add_argument(*flags, dest=setting.name, type=_octal, metavar=kind.metavar, help=text)
    elif kind is NUMBER:
        parser.add_argument(*flags, dest=setting.name, type=int, metavar=kind.metavar, help=text)
    else:
        parser.add_argument(*flags, dest=setting.name, metavar=kind.metavar, help=text)


def _octal(text: str) -> object:
    return read_octal(text)


_octal.__name__ = "int"  # the name in argparse's error
