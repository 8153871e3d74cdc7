"""The command-line options that `bench`, `bench.growth` and `bench.turns` have in common."""

from __future__ import annotations

import argparse
import importlib.util
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from bench import report, wrk
from bench.progress import Progress
from bench.runner import Options
from bench.servers import SERVERS, Server
from bench.serving import Cores
from starman.commands.option_types import seconds, whole_number

ROUNDS = 3
MOST_ROUNDS = 1000
SECONDS = 2.0
ALL_NAMES = "all"


def parser(program: str, description: str, noun: str, listed: str) -> argparse.ArgumentParser:
    """A parser with the common options."""
    made = argparse.ArgumentParser(
        prog=program, description=description, epilog=listed, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("names", nargs="*", metavar=noun, help=f"what to measure, or `{ALL_NAMES}`")
    made.add_argument(
        "--rounds", type=whole_number(1, MOST_ROUNDS), default=ROUNDS, help=f"rounds, of every server in turn (default: {ROUNDS})"
    )
    made.add_argument(
        "--seconds", type=seconds(0.1, 3600), default=SECONDS, help=f"seconds of a server in a round (default: {SECONDS:g})"
    )
    made.add_argument(
        "--generator", choices=("auto", "wrk", "own"), default="auto", help="load generator (default: auto, wrk where it can)"
    )
    made.add_argument("--json", type=Path, metavar="FILE", help="write JSON with every round")
    made.add_argument("--markdown", type=Path, metavar="FILE", help="write Markdown, between the file's markers if it is there")
    made.add_argument("--plots", type=Path, metavar="DIRECTORY", help="write plots as SVG (matplotlib)")
    made.add_argument("--from", dest="source", type=Path, metavar="FILE", help="measure nothing: show the JSON of an earlier run")
    return made


def add_servers(made: argparse.ArgumentParser) -> None:
    """Add the option that chooses servers."""
    made.add_argument("--servers", type=_servers, metavar="NAME,…", help="only servers whose names begin so (default: all)")


def names(
    made: argparse.ArgumentParser, given: Sequence[str], known: Collection[str], default: Sequence[str], noun: str
) -> list[str]:
    """The chosen names. Ends the process with status 2 if one is unknown."""
    if unknown := [name for name in given if name not in known and name != ALL_NAMES]:
        made.error(f"no {noun} {', '.join(unknown)}; there are {', '.join(known)}, {ALL_NAMES}")
    return list(known) if ALL_NAMES in given else list(given or default)


def check(made: argparse.ArgumentParser, given: Any) -> None:
    """End the process with status 2 if a requested feature is missing: before the measurement rather than after."""
    if given.plots and importlib.util.find_spec("matplotlib") is None:
        made.error("--plots needs matplotlib: make bench installs it")
    if given.generator == "wrk" and wrk.find() is None:
        made.error("--generator wrk: wrk is not installed; Debian and Homebrew have it as the package wrk")
    for path in (given.json, given.markdown):
        if path and path.is_dir():
            made.error(f"{path} is a directory, not a file")


def options(given: Any) -> Options:
    """How the run measures."""
    return Options(given.rounds, given.seconds, Cores.choose(), given.generator)


def about(chosen: Options) -> dict[str, Any]:
    """The machine and the options, which are printed with the figures."""
    made = {"rounds": chosen.rounds, "seconds": chosen.seconds, "generator": chosen.generator, "wrk": wrk.find() is not None}
    return {**report.machine(chosen.cores), **made}


def mention_missing(servers: Sequence[Server], chosen: Sequence[str] | None, progress: Progress) -> None:
    """Print a line for each server that is not installed, and for each feature that the machine lacks."""
    for server in servers:
        if (chosen is None or server.name.startswith(tuple(chosen))) and server.version() is None:
            progress.note(f"{server.name} is left out, it is not installed: {server.install}")
    if wrk.find() is None:
        progress.note("wrk is not installed: our own client measures, and is the limit of fast servers. Debian: apt install wrk")
    if report.congestion_control().startswith("bbr"):
        progress.note(
            "TCP's congestion control is bbr, which paces connections of one machine as well: large bodies say more of it"
        )
        progress.note("than of servers. As root: sysctl net.ipv4.tcp_congestion_control=cubic, which is Linux's default.")
    if not Cores.choose().server:
        progress.note("Server and client share their cores: pinning needs taskset and two of them.")


def images(given: Any, pattern: str) -> str:
    """Markdown that shows the plots, if there are any, with paths relative to the page."""
    if not given.plots:
        return ""
    page = given.markdown.resolve().parent
    found = sorted(given.plots.resolve().glob(pattern))
    return "".join(f"\n\n![{path.stem.replace('-', ' ')}]({os.path.relpath(path, page)})" for path in found)


def _servers(text: str) -> list[str]:
    chosen = [name.strip() for name in text.split(",") if name.strip()]
    for name in chosen:
        if not any(server.startswith(name) for server in SERVERS):
            raise argparse.ArgumentTypeError(f"no server is named {name!r}; there are {', '.join(SERVERS)}")
    if not chosen:
        raise argparse.ArgumentTypeError("names no server")
    return chosen
