"""Runs a command for a server that runs, and returns its exit status: 0 done, 1 failed, 2 wrong usage."""

from __future__ import annotations

import argparse
import difflib
import json
import os
import sys

from starman.commands import COMMANDS, waiting
from starman.commands.bug_report import bug_report
from starman.commands.client import CommandError, WrongUsageError, connect
from starman.commands.option_types import process_id, seconds, socket_path, whole_number
from starman.commands.stacks_text import stacks_text
from starman.commands.status_table import status_text
from starman.commands.top import show
from starman.commands.top_view import SORTS
from starman.commands.trace import MOST_COUNT, add_options, show_requests
from starman.config.kinds import MOST_WORKERS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from starman.commands.client import Client

DONE, FAILED, WRONG_USAGE = 0, 1, 2
CHOICE = "Without --pid and --control, the command finds the server of this user on this machine; root sees all servers."


def main(argv: Sequence[str]) -> int:
    """Run the command whose name is the first of `argv`. Prints to standard output, and errors to standard error."""
    options = _parser(argv[0]).parse_args(argv[1:])
    # An option goes before the variable.
    options.control = options.control or (_path_of_environment() if options.pid is None else None)
    try:
        with connect(options.pid, options.control) as client:
            return _run(argv[0], client, options)
    except CommandError as error:
        print(f"starman: {error}", file=sys.stderr)
        return WRONG_USAGE if isinstance(error, WrongUsageError) else FAILED
    except BrokenPipeError:
        # The reader of a pipe has enough. Python would write to it once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except KeyboardInterrupt:
        return DONE


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Print what is wrong, and the option that may be meant."""
        _, unknown, flag = message.partition("unrecognized arguments: ")
        if unknown:
            own = [string for action in self._actions for string in action.option_strings]
            close = difflib.get_close_matches(flag.partition(" ")[0].partition("=")[0], own, 1)
            message += f" (did you mean {close[0]}?)" if close else ""
        super().error(message)


def _parser(command: str) -> argparse.ArgumentParser:
    parser = _Parser(
        prog=f"starman-uv {command}",
        description=f"{COMMANDS[command]} {CHOICE}",
        epilog=f"To serve an application module called {command}, write {command}:app or ./{command}.py.",
        allow_abbrev=False,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--pid", type=process_id, metavar="N", help="The process id of the master.")
    which.add_argument(
        "--control",
        type=socket_path,
        metavar="PATH",
        help="The control socket of a server with --control PATH. Default without --pid: STARMAN_CONTROL, if that is a path.",
    )
    if command == "status":
        parser.add_argument("--json", action="store_true", help="Print everything that is known, as JSON.")
    elif command == "stacks":
        parser.add_argument("--json", action="store_true", help="Print the stacks as JSON.")
        parser.add_argument(
            "--force",
            action="store_true",
            help="Also interrupt a process whose main thread runs no Python code. This may crash that process.",
        )
    elif command == "trace":
        add_options(parser)
    elif command == "top":
        parser.add_argument("--interval", type=seconds(0.1, 3600), default=1.0, metavar="SECONDS", help="How often. Default: 1.")
        parser.add_argument("--sort", choices=list(SORTS), default="number", help="Sort the workers. Default: number.")
        parser.add_argument(
            "--count", type=whole_number(0, MOST_COUNT), default=0, metavar="N", help="End after N times. Default: 0, never."
        )
    elif command == "report":
        parser.add_argument("file", nargs="?", default="-", metavar="FILE", help="A new file. Default: standard output.")
    elif command == "scale":
        parser.add_argument(
            "workers", type=whole_number(1, MOST_WORKERS), metavar="WORKERS", help=f"How many, from 1 to {MOST_WORKERS}."
        )
    if command in ("scale", "reload", "stop"):
        parser.add_argument("--no-wait", action="store_true", help="Do not wait for the outcome.")
        parser.add_argument(
            "--timeout", type=seconds(0.1, 3600), default=0.0, metavar="SECONDS", help="Wait no longer. Default: without a limit."
        )
    return parser


def command_flags() -> list[str]:
    """Every flag of the commands."""
    return [flag for command in COMMANDS for action in _parser(command)._actions for flag in action.option_strings]


def _path_of_environment() -> str | None:
    control = os.environ.get("STARMAN_CONTROL", "")
    return control if control not in ("", "auto", "off") else None


def _write(text: str, path: str) -> None:
    """Write to a new file that only this user can read, or to standard output ("-"). Raises CommandError."""
    if path == "-":
        print(text, end="")
        return
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise CommandError(f"cannot write {path}: {error.strerror}") from None


def _run(command: str, client: Client, options: argparse.Namespace) -> int:
    if command == "status":
        status = client.request("status")["status"]
        print(json.dumps(status, indent=2) if options.json else status_text(status))
    elif command == "stacks":
        processes = client.request("stacks", force=options.force)["processes"]
        print(json.dumps(processes, indent=2) if options.json else stacks_text(processes))
    elif command == "trace":
        show_requests(client, options)
    elif command == "top":
        show(client, interval=options.interval, sort=options.sort, count=options.count)
    elif command == "report":
        _write(bug_report(client), options.file)
    elif options.no_wait:
        client.request(command, **({"workers": options.workers} if command == "scale" else {}))
    elif command == "scale":
        print(waiting.scale(client, options.workers, options.timeout))
    elif command == "reload":
        print(waiting.reload(client, options.timeout))
    else:
        print(waiting.stop(client, options.pid, options.control, options.timeout))
    return DONE
