"""Records a restart under load: `python -m bench.restart`. It writes an animated SVG, and JSON with what it shows.

A Flask application is served by starman with two workers. The bench's own client sends requests over 32 connections.
Meanwhile the source changes, and the master gets HUP. The recording shows how many responses came from the old and
from the new code in each moment, and how many requests failed.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from bench import report
from bench.client import Connection, Generator, Kind
from bench.processes import descendants
from bench.results import BenchError
from bench.scenarios import Load
from bench.serving import Cores, environment, prepare_process
from bench.terminal import Line, Recording, draw

# 60 of such, each a bar of the picture.
MOMENT_SECONDS = 0.1
SECONDS = 6.0
EDIT_SECONDS = 1.5
RESTART_SECONDS = 2.0
CONNECTIONS = 32
WORKERS = 2
START_SECONDS = 20.0
EDIT = """sed -i 's/VERSION = "1"/VERSION = "2"/' app.py"""
APPLICATION = """\
from flask import Flask

VERSION = "1"
app = Flask(__name__)


@app.get("/")
def hello():
    return f"Hello from version {VERSION}\\n", {"X-Version": VERSION}
"""


@dataclass(frozen=True, slots=True)
class Moment:
    """What happened up to `at` seconds: responses of each version and failed requests, since the moment before."""

    at: float
    old: int
    new: int
    failed: int


class Watched(Connection):
    """Counts the responses of each version."""

    versions: dict[bytes, int]

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        if name == b"X-Version":
            self.versions[value] = self.versions.get(value, 0) + 1


def main() -> int:
    """Record, or draw an earlier recording again. The exit status: 1 if the server could not be recorded."""
    parser = argparse.ArgumentParser(prog="python -m bench.restart", description="Record a restart under load.")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was recorded")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="write the animated picture")
    parser.add_argument("--from", dest="source", type=Path, metavar="FILE", help="record nothing: draw an earlier recording")
    given = parser.parse_args()
    try:
        if given.source:
            document = report.load(given.source)
        else:
            prepare_process()
            document = record()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    if given.json:
        report.write_json(given.json, document)
    if given.svg:
        given.svg.parent.mkdir(parents=True, exist_ok=True)
        given.svg.write_text(draw(recording(document)), "utf-8")
    total = sum(moment["old"] + moment["new"] for moment in document["moments"])
    print(f"{total:,} responses, {document['failed']} failed, the longest took {document['longest_ms']:.0f} ms")
    return 0


def record() -> dict[str, Any]:
    """Start the server, load it and restart it. Raises BenchError if it does not start, or does not restart."""
    with tempfile.TemporaryDirectory(prefix="restart-") as name:
        directory = Path(name)
        (directory / "app.py").write_text(APPLICATION, "utf-8")
        log = directory / "log"
        port = _port()
        started = f"starman-uv --workers {WORKERS} --listen 127.0.0.1:{port} app:app"
        with log.open("wb") as output:
            server = subprocess.Popen(
                started.split(), cwd=directory, env=_surroundings(), stdin=subprocess.DEVNULL, stderr=output
            )
        try:
            return {"started": started, **uvloop.run(_record(server, directory, log, port))}
        finally:
            server.terminate()
            server.wait(START_SECONDS)


async def _record(server: subprocess.Popen[bytes], directory: Path, log: Path, port: int) -> dict[str, Any]:
    ready = await _ready_line(server, log)
    Watched.versions = {}
    generator = Generator(Load(CONNECTIONS), port, "/", SECONDS, Watched)
    before = descendants(server.pid)
    load = asyncio.get_running_loop().create_task(generator.run())
    began = time.monotonic()
    moments: list[Moment] = []
    lines: list[tuple[float, str]] = []
    told = old = new = failed = 0
    commands = [(EDIT_SECONDS, EDIT), (RESTART_SECONDS, f"kill -HUP {server.pid}")]
    typed: list[tuple[float, str]] = []
    while len(moments) < SECONDS / MOMENT_SECONDS:
        await asyncio.sleep(began + (len(moments) + 1) * MOMENT_SECONDS - time.monotonic())
        at = time.monotonic() - began
        seen = Watched.versions.get(b"1", 0), Watched.versions.get(b"2", 0), generator.errors
        moments.append(Moment(round(at, 3), seen[0] - old, seen[1] - new, seen[2] - failed))
        old, new, failed = seen
        written = log.read_text("utf-8").splitlines()[1:]
        lines += [(round(at, 3), line) for line in written[told:]]
        told = len(written)
        if commands and at >= commands[0][0]:
            text = commands.pop(0)[1]
            done = await asyncio.create_subprocess_shell(text, cwd=directory)
            if await done.wait():
                raise BenchError(f"{text} failed")
            typed.append((round(at, 3), text))
    result = await load
    if not new or moments[-1].old:
        raise BenchError(f"the new code did not take over: {old} and {new} responses of the old and the new")
    after = descendants(server.pid)
    return {
        "about": {**report.machine(Cores()), "load": [round(each, 2) for each in os.getloadavg()]},
        "connections": CONNECTIONS,
        "ready": ready,
        "typed": typed,
        "moments": [asdict(moment) for moment in moments],
        "lines": lines,
        "replaced": len(set(before) - set(after)),
        "failed": result.errors,
        "longest_ms": max(generator.latencies[Kind.FAST]),
        "p99_ms": result.latencies[99.0],
    }


async def _ready_line(server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        text = log.read_text("utf-8")
        if " ready: " in text and text.endswith("\n"):
            return text.splitlines()[0]
        if server.poll() is not None:
            raise BenchError(f"the server ended: {text.strip()}")
        await asyncio.sleep(0.05)
    raise BenchError(f"the server was not ready in {START_SECONDS:.0f} s")


def recording(document: dict[str, Any]) -> Recording:
    """What the picture shows of a recording."""
    lines = [Line(0.0, "$ ", f"{document['started']} &"), Line(0.0, "", document["ready"])]
    later = [Line(at, "$ ", text) for at, text in document["typed"]] + [Line(at, "", text) for at, text in document["lines"]]
    lines += sorted(later, key=lambda line: line.at)
    moments = tuple((moment["at"], moment["old"], moment["new"], moment["failed"]) for moment in document["moments"])
    return Recording(tuple(lines), moments, document["connections"], document["longest_ms"])


def _port() -> int:
    """The usual port of an example, or another if that is in use."""
    for port in (8000, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise BenchError("no port is free")


def _surroundings() -> dict[str, str]:
    """The environment: the command is that of this Python, and the server reads none of its variables."""
    kept = {name: value for name, value in environment().items() if not name.startswith("STARMAN_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}"}


if __name__ == "__main__":
    sys.exit(main())
