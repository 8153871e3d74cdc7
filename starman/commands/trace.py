"""`starman-uv trace`: requests as they finish, a line each, chosen by method, path, status and duration."""

from __future__ import annotations

import argparse
import json
import sys
import time

from starman.commands.option_types import seconds, whole_number
from starman.commands.printable import printable
from starman.serving.access_log.trace_filter import TraceFilter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from starman.commands.client import Client

# The greatest value of --count.
MOST_COUNT = 999_999_999

_HEADER = f"{'time':12}  {'worker':>6}  {'status':>6}  {'seconds':>9}  {'queued':>9}  {'bytes':>10}  {'client':15}  request"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command to its parser."""
    parser.add_argument(
        "--path",
        action="append",
        type=_checked("paths"),
        default=[],
        metavar="PATTERN",
        help="Only this path, without its query; * stands for any text and ? for a character. May be repeated.",
    )
    parser.add_argument(
        "--status",
        action="extend",
        type=_checked("statuses"),
        default=[],
        metavar="LIST",
        help="Only these statuses: 404, or 5xx for a class; several with commas. 499: the client has left.",
    )
    parser.add_argument(
        "--method",
        action="extend",
        type=_checked("methods"),
        default=[],
        metavar="LIST",
        help="Only these methods, such as POST; several with commas.",
    )
    parser.add_argument(
        "--min-duration",
        type=seconds(0, 86_400),
        default=0.0,
        metavar="SECONDS",
        help="Only requests that took as long. Default: 0.",
    )
    parser.add_argument(
        "--count", type=whole_number(0, MOST_COUNT), default=0, metavar="N", help="End after N requests. Default: 0, never."
    )
    parser.add_argument("--json", action="store_true", help="Print each request as a line of JSON.")


def show_requests(client: Client, options: argparse.Namespace) -> None:
    """Print requests until Ctrl-C, the end of the server, or as many as asked for. Raises CommandError."""
    paths, statuses, methods = options.path, options.status, options.method
    chosen = TraceFilter(methods, [path for part in paths for path in part], statuses, options.min_duration)
    client.request("trace", filter=chosen.fields())
    if not options.json:
        print(_HEADER, flush=True)
    shown = 0
    for answer in client.follow():
        if "lost" in answer:
            print(f"starman: {_missing(answer['lost'])}", file=sys.stderr, flush=True)
            continue
        request = answer["request"]
        print(json.dumps(request) if options.json else request_line(request), flush=True)
        shown += 1
        if shown == options.count:
            return


def request_line(request: dict[str, Any]) -> str:
    """The line of a request. Control characters are escaped, so a client cannot reach the terminal."""
    moment = time.strftime("%H:%M:%S", time.localtime(request["time"])) + f".{int(request['time'] * 1000) % 1000:03d}"
    what = "(refused before it was a request)"
    if request["method"] is not None:
        what = f"{request['method']} {request['target']}"
    client = printable(request["client"] or "-")
    return (
        f"{moment:12}  {request['worker']:>6}  {request['status']:>6}  {request['seconds']:>9.4f}  "
        f"{request['queue_seconds']:>9.4f}  {request['body_bytes']:>10}  {client:15}  {printable(what)}"
    )


def _missing(count: int) -> str:
    requests = "1 request is" if count == 1 else f"{count} requests are"
    return f"{requests} missing here: more have finished than could be shown"


def _checked(name: str) -> Callable[[str], list[str]]:
    """A type for argparse: values of this list of a `TraceFilter`, separated by commas; a path is one value."""

    def parse(text: str) -> list[str]:
        values = [text] if name == "paths" else [part.strip() for part in text.split(",")]
        if name != "paths":
            values = [value.lower() if name == "statuses" else value.upper() for value in values]
        try:
            TraceFilter(**{name: values})  # type: ignore[arg-type]
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return values

    return parse
