"""The table of servers: a name, how to start it, and the package it comes from."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True, slots=True)
class Start:
    """What a server is started for: an application "module:name", on 127.0.0.1:`port`, with so many workers and threads."""

    application: str
    port: int
    workers: int
    threads: int


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can be measured. `package` is its distribution; `command` gives the argv that starts it."""

    name: str
    package: str
    command: Callable[[Start], list[str]]

    def version(self) -> str | None:
        """The installed version; None if it is not installed here."""
        if self.package == "starman":
            from starman.version import VERSION  # of this checkout, installed or not

            return VERSION
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


def _starman(start: Start) -> list[str]:
    counts = ["--workers", str(start.workers), "--threads", str(start.threads)]
    return [sys.executable, "-m", "starman", *counts, "--listen", f"127.0.0.1:{start.port}", start.application]


def _starman_preload(start: Start) -> list[str]:
    return [*_starman(start), "--preload-app"]


def _gunicorn(start: Start, *options: str) -> list[str]:
    common = ["--workers", str(start.workers), "--bind", f"127.0.0.1:{start.port}", "--log-level", "warning"]
    return [sys.executable, "-m", "gunicorn", *common, *options, start.application]


def _gunicorn_gthread(start: Start) -> list[str]:
    # Its default of 2 s would do for wrk, too; 65 s is starman's, so that both keep as much.
    return _gunicorn(start, "--worker-class", "gthread", "--threads", str(start.threads), "--keep-alive", "65")


def _gunicorn_sync(start: Start) -> list[str]:
    # The sync worker has neither threads nor keep-alive: it closes each connection, and wrk opens another.
    return _gunicorn(start, "--worker-class", "sync")


def _gunicorn_gthread_preload(start: Start) -> list[str]:
    return [*_gunicorn_gthread(start), "--preload"]


def _granian(start: Start) -> list[str]:
    counts = ["--workers", str(start.workers), "--blocking-threads", str(start.threads)]
    place = ["--host", "127.0.0.1", "--port", str(start.port), "--no-ws", "--log-level", "warning"]
    return [sys.executable, "-m", "granian", "--interface", "wsgi", *counts, *place, start.application]


STARMAN = Server("starman", "starman", _starman)
STARMAN_PRELOAD = Server("starman, preloaded", "starman", _starman_preload)
GUNICORN_GTHREAD = Server("gunicorn gthread", "gunicorn", _gunicorn_gthread)
GUNICORN_SYNC = Server("gunicorn sync", "gunicorn", _gunicorn_sync)
GUNICORN_GTHREAD_PRELOAD = Server("gunicorn gthread, preloaded", "gunicorn", _gunicorn_gthread_preload)
GRANIAN = Server("granian", "granian", _granian)
