"""The command `starman-uv`: reads the settings, then serves, checks or prints, and returns the exit status.

Must not import anything large, because the process becomes the master.
"""

from __future__ import annotations

import os
import signal
import sys

from starman import foreign_distribution, log, standard_streams
from starman.check import INTERRUPTED, check, report
from starman.commands import COMMANDS
from starman.config.option import DEFAULT_SOURCE, OPTIONS, Option
from starman.config.sources import Action, from_arguments, from_command_line, negative_flag
from starman.config.working_directory import started_in
from starman.errors import NoApplicationError, SettingError, StarmanError
from starman.takeover import answer_trial, settings_of_handover, take_handover
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.wsgi.call import Application

COLUMNS = 80
HELP_INDENT = 28

ABOUT = """\
usage: starman-uv [OPTION]... [APPLICATION]
       starman-uv gunicorn [OPTION OF GUNICORN]... [MODULE:APPLICATION]
       starman-uv COMMAND [OPTION]...

A preforking WSGI server: a small master process, and worker processes with an
event loop and threads.

{application}

Commands for a server that runs (`starman-uv COMMAND --help` has their options):
{commands}

Each option can also be given as an environment variable (STARMAN_WORKERS), or
as a key in starman.toml or in [tool.starman] of pyproject.toml. The command
line overrides the environment, and the environment overrides the file. PORT and
WEB_CONCURRENCY, if set, are the defaults of --port and --workers.
"""
OTHER_OPTIONS = (
    ("--config FILE", "Read settings from this TOML file only."),
    ("--print-config", "Print each setting with its value and source, and exit."),
    ("--check", "Check the settings, bind the listeners, load the application, report, and exit."),
    ("-h, --help", "Print this help and exit."),
    ("-v, --version", "Print the version and exit."),
)


def main(argv: list[str] | None = None) -> int:
    """Run the command with `argv` (None: the process's own arguments) and return its exit status.

    A StarmanError is printed to standard error, with its details. Main thread.
    """
    opened = log.open_own_descriptor(standard_streams.open_missing())
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        # Inherited, for example from `trap '' CHLD` in a shell. The kernel would then discard the exit statuses of
        # children.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        return _run(sys.argv[1:] if argv is None else argv)
    except StarmanError as error:
        status = report(error)
        _suggest_command(sys.argv[1:] if argv is None else argv)
        return status
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        log.finish()
        if opened:
            log.close_own_descriptor()


def _suggest_command(argv: list[str]) -> None:
    """The server has not started: if the first argument looks like a misspelt command, print the command."""
    commands = ["gunicorn", *COMMANDS]
    if not argv or argv[0] in commands or not argv[0].isalpha():
        return
    try:
        import difflib  # which a server does not need
    except ImportError:
        return  # the user given by --user may not read Python's modules, which is why the server has not started
    for command in difflib.get_close_matches(argv[0], commands, n=1, cutoff=0.75):
        print(f"starman: did you mean the command starman-uv {command}?", file=sys.stderr)


def _is_compiled() -> bool:
    """Whether the modules that setup.py names are compiled."""
    from starman.proto import events

    return not events.__file__.endswith(".py")


def _run(argv: list[str]) -> int:
    foreign_distribution.check_package()
    directory = started_in(os.environ)
    if argv and argv[0] in COMMANDS:
        from starman.commands.command_line import main as run_command

        return run_command(argv)
    if argv[:1] == ["gunicorn"]:
        return _run_for_gunicorn(argv[1:], directory)
    answer_trial(lambda: from_command_line(from_arguments(argv), os.environ, directory))
    handover = take_handover()
    line = from_arguments(argv)
    if line.action is Action.HELP:
        return _shown(help_text())
    if line.action is Action.VERSION:
        return _shown(f"starman {VERSION}{' (compiled)' if _is_compiled() else ''}")

    def read() -> Settings:
        return from_command_line(line, os.environ, directory)

    settings = read() if handover is None else settings_of_handover(handover, read)
    if line.action is Action.PRINT_CONFIG:
        return _shown(config_text(settings))
    if line.action is Action.CHECK:
        return check(settings)

    from starman.server import run_master

    return run_master(settings, read, handover)


def _run_for_gunicorn(argv: list[str], directory: str) -> int:
    """Run by a command line of gunicorn."""
    from starman.gunicorn import CHECK, DONE
    from starman.gunicorn import configuration_reader as reading

    logged: list[str] = []  # by the start
    reread = reading.reader(argv, directory, logged)
    answer_trial(reread, _load_for_gunicorn)
    handover = take_handover()
    notes: tuple[str, ...] = ()
    if handover is None:
        found = reading.read(argv, directory)
        if found.action == DONE:
            return found.status
        settings, notes = found.settings, found.notes
        logged += notes
        if found.action == CHECK:
            for note in notes:
                print(f"starman: {note}", file=sys.stderr)
            return min(1, check(settings, binds=False, load_by=_load_for_gunicorn))
    else:
        settings = settings_of_handover(handover, reread)

    from starman.server import run_master

    try:
        return run_master(settings, reread, handover, notes, _load_for_gunicorn, _status_of_failed_worker)
    except SettingError as error:
        error.exit_status = 1  # gunicorn has 2 for a wrong command line only
        raise


def _status_of_failed_worker(error: BaseException) -> int:
    """The exit status that gunicorn has when a worker cannot start: 4 if there is no application, else 3. Certificates
    and logs are opened by its master, with the status 1."""
    if isinstance(error, SettingError):
        return 1
    return 4 if isinstance(error, NoApplicationError) else 3


def _load_for_gunicorn(settings: Settings) -> Application:
    from starman.gunicorn.workers.load_application import load

    return load(settings)


def _shown(text: str) -> int:
    standard_streams.print_text(text)
    return 0


def config_text(settings: Settings) -> str:
    """The text of --print-config: each setting with its value and source, in aligned columns."""
    rows = [
        (name, " ".join(setting.show(settings.value(name)).split()), settings.source(name)) for name, setting in OPTIONS.items()
    ]
    rows = [_address_row(settings, *row) for row in rows]
    first = max(len(name) for name, _, _ in rows)
    second = min(40, max(len(value) for _, value, _ in rows))
    return "\n".join(f"{name:{first}}  {value:{second}}  {source}" for name, value, source in rows)


def _address_row(settings: Settings, name: str, value: str, source: str) -> tuple[str, str, str]:
    """A row of --print-config. listen, socket, host and port say which of them count."""
    others = [other for other in ("socket", "host", "port") if settings.source(other) != DEFAULT_SOURCE]
    if name == "listen" and others and source == DEFAULT_SOURCE:
        return name, ", ".join(map(str, settings.addresses())), f"by {' and '.join(others)}"
    if name in others and settings.source("listen") != DEFAULT_SOURCE:
        return name, value, f"{source} (not used, because of listen)"
    return name, value, source


def help_text() -> str:
    """The text of --help: the settings by group, in at most 80 columns."""
    import textwrap

    application = textwrap.fill(OPTIONS["app"].help, COLUMNS)
    commands = textwrap.fill(", ".join(COMMANDS), COLUMNS, initial_indent="  ", subsequent_indent="  ")
    lines = ABOUT.format(application=application, commands=commands).splitlines()
    groups: dict[str, list[tuple[str, str]]] = {}
    for setting in OPTIONS.values():
        if not setting.positional:
            groups.setdefault(setting.group, []).append((_option(setting), f"{setting.help} {_default(setting)}"))
    groups["Other"] = list(OTHER_OPTIONS)
    for group, options in groups.items():
        lines += ["", f"{group}:"]
        for option, text in options:
            paragraph = textwrap.wrap(text, COLUMNS - HELP_INDENT, break_on_hyphens=False)
            if len(option) > HELP_INDENT - 4:
                lines.append(f"  {option}")
            else:
                lines.append(f"  {option:{HELP_INDENT - 2}}{paragraph.pop(0)}")
            lines += [" " * HELP_INDENT + part for part in paragraph]
    return "\n".join(lines)


def _option(setting: Option) -> str:
    """How a setting is written on the command line: "-l, --listen ADDRESS", "-D, --[no-]daemonize"."""
    flags = ", ".join(setting.all_flags)
    if setting.boolean:
        return flags.replace(setting.flag, negative_flag(setting).replace("--no-", "--[no-]", 1))
    return f"{flags} {setting.kind.metavar}"


def _default(setting: Option) -> str:
    again = "May be repeated. " if setting.repeatable else ""
    return f"{again}Default: {setting.default_text}."
