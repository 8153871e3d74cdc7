"""The table of servers: name, command, and package. A variant of a server is one more entry.

Each server gets its best settings, and those that make it comparable: access logs off, connections kept as long as
starman keeps them, room for 10,000 and more of them, and as many threads as requested, or the one that it has.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
# Where `make compiled` puts starman, compiled for this Python.
COMPILED = Path(sys.prefix) / "compiled"

# Seconds that an idle connection is kept, starman's default, and how many connections are kept at most.
KEEP_ALIVE = "65"
CONNECTIONS = "20000"


@dataclass(frozen=True, slots=True)
class Start:
    """What a server is started for: an application "module:name", on 127.0.0.1:`port` or on the UNIX socket `socket`,
    with numbers of workers and threads.

    Only starman, gunicorn and granian serve on a UNIX socket here. `psgi` is the same application for Perl; "" if
    there is none. `scratch`: a directory for files of the server.
    """

    application: str
    port: int
    workers: int
    threads: int
    psgi: str = ""
    scratch: str = "."
    socket: str = ""


@dataclass(frozen=True, slots=True)
class Server:
    """A server that can be measured. `command` returns the argv that starts it.

    `package`: its distribution, or the program of a server that is not in Python. `colour`: its colour in every
    plot. `place`: its directory, if that is not one of Python's own. Without `threaded`, each worker serves one
    request at a time; without `multiple`, there is only one worker.
    """

    name: str
    package: str
    command: Callable[[Start], list[str]]
    colour: str
    install: str = "make bench installs it"
    threaded: bool = True
    multiple: bool = True
    psgi: bool = False
    place: Path | None = None

    def version(self) -> str | None:
        """The installed version; None if it is not installed here."""
        if self.psgi:
            return _version_of_program(self.package)
        if self.place is not None and not self.place.is_dir():
            return None
        if self.package == "starman":
            from starman.version import VERSION  # of this checkout, installed or not

            return VERSION
        try:
            return version(self.package)
        except PackageNotFoundError:
            return None


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python, and its version: "3.12"."""

    path: str
    version: str


def _version_of_program(name: str) -> str | None:
    if (path := shutil.which(name)) is None:
        return None
    done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False)
    found = re.search(r"\d+(\.\d+)+", done.stdout)
    return found[0] if found else None


def _python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def _starman(*options: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        counts = ["--workers", str(start.workers)]
        if "--threads" not in options:
            counts += ["--threads", str(start.threads)]
        place = ["--listen", start.socket or f"127.0.0.1:{start.port}"]
        given = [option.format(scratch=start.scratch) for option in options]
        return _python("starman", *counts, *place, "--max-body", "2G", *given, start.application)

    return command


def _compiled(start: Start) -> list[str]:
    # Without -P, Python would look into the working directory first, and find this checkout.
    interpreter, *arguments = _starman()(start)
    return ["env", f"PYTHONPATH={COMPILED}:{REPOSITORY}", interpreter, "-P", *arguments]


def _gunicorn(*options: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        place = f"unix:{start.socket}" if start.socket else f"127.0.0.1:{start.port}"
        common = ["--workers", str(start.workers), "--bind", place, "--log-level", "warning"]
        # The sync worker heeds neither: it closes each connection, and the client opens another.
        kept = ["--keep-alive", KEEP_ALIVE, "--worker-connections", CONNECTIONS]
        given = [option.format(threads=start.threads, scratch=start.scratch) for option in options]
        return _python("gunicorn", *common, *kept, *given, start.application)

    return command


GTHREAD = ("--worker-class", "gthread", "--threads", "{threads}")


def _waitress(start: Start) -> list[str]:
    # Without poll it would use select, which ends at 1,024 descriptors.
    room = ["--connection-limit", CONNECTIONS, "--asyncore-use-poll", "--max-request-body-size", "2000000000"]
    return _python("waitress", f"--listen=127.0.0.1:{start.port}", f"--threads={start.threads}", *room, start.application)


def _granian(*options: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        counts = ["--workers", str(start.workers), "--blocking-threads", str(start.threads)]
        # Its connections beyond the backpressure wait to be accepted, which idle ones would let all others do.
        kind = ["--interface", "wsgi", "--http", "1", "--no-ws", "--log-level", "warning", "--backpressure", CONNECTIONS]
        place = ["--uds", start.socket] if start.socket else ["--host", "127.0.0.1", "--port", str(start.port)]
        return _python("granian", *kind, *counts, *place, "--backlog", "2048", *options, start.application)

    return command


def _uvicorn(start: Start) -> list[str]:
    place = ["--host", "127.0.0.1", "--port", str(start.port), "--workers", str(start.workers)]
    kind = ["--loop", "uvloop", "--http", "httptools", "--lifespan", "off", "--no-access-log", "--log-level", "warning"]
    wrapped = ["env", f"BENCH_APPLICATION={start.application}", f"BENCH_THREADS={start.threads}"]
    given = ["--timeout-keep-alive", KEEP_ALIVE, "--factory", "bench.launch:asgi"]
    return [*wrapped, *_python("uvicorn", *place, *kind, *given)]


def _cheroot(start: Start) -> list[str]:
    counts = ["--threads", str(start.threads), "--max-threads", str(start.threads), "--timeout", KEEP_ALIVE]
    return _python("cheroot", "--bind", f"127.0.0.1:{start.port}", *counts, "--request-queue-size", "2048", start.application)


def _launch(name: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        return ["env", f"BENCH_THREADS={start.threads}", *_python("bench.launch", name, start.application, str(start.port))]

    return command


def _perl(start: Start) -> list[str]:
    # It has no threads: as many processes as the others have threads.
    processes = str(start.workers * start.threads)
    place = ["--listen", f"127.0.0.1:{start.port}", "--workers", processes, "--keepalive-timeout", KEEP_ALIVE]
    return ["starman", *place, "--env", "deployment", "--preload-app", start.psgi]


def run_by(server: Server, interpreter: Interpreter) -> Server:
    """The same server, run by another Python, which must have all that it needs installed."""

    def command(start: Start) -> list[str]:
        return [interpreter.path if word == sys.executable else word for word in server.command(start)]

    return replace(server, name=f"{server.name}, {interpreter.version}", command=command)


STARMAN = Server("starman", "starman", _starman(), "#d55e00")
STARMAN_INLINE = Server("starman, no threads", "starman", _starman("--threads", "0"), "#e0b080", threaded=False)
STARMAN_COMPILED = Server("starman, compiled", "starman", _compiled, "#7a3300", install="make compiled", place=COMPILED)
STARMAN_LOGGED = Server("starman, access log", "starman", _starman("--access-log", "{scratch}/access.log"), "#f0a060")
# Its formats. The custom ones are the usual one of gunicorn, and the JSON that is often written by hand.
GUNICORN_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
OWN_JSON = '{"time": "%(t)s", "client": "%(h)s", "request": "%(r)s", "status": %(s)s, "bytes": %(b)s, "agent": "%(a)s"}'


def _logging(kind: str, line_format: str, colour: str, *more: str) -> Server:
    escaped = line_format.replace("{", "{{").replace("}", "}}")
    command = _starman("--access-log", "{scratch}/access.log", "--access-log-format", escaped, *more)
    return Server(f"starman, access log {kind}", "starman", command, colour)


STARMAN_LOG_FORMATS = (
    _logging("common", "common", "#d0a060"),
    _logging("json", "json", "#b08040"),
    _logging("ecs", "ecs", "#907030"),
    _logging("gcp", "gcp", "#706020"),
    _logging("custom", GUNICORN_FORMAT, "#505010"),
    _logging("custom JSON", OWN_JSON, "#404040"),
    _logging("errors only", "combined", "#c0c0c0", "--access-log-errors"),
)
STARMAN_SHEDDING = Server("starman, queue_timeout 0.5", "starman", _starman("--queue-timeout", "0.5"), "#b04010")
STARMAN_POOL = Server("starman, plain pool", "starman", _launch("plain-pool"), "#f0c0a0", multiple=False)
STARMAN_PRELOAD = Server("starman, preloaded", "starman", _starman("--preload-app"), "#a04000")
GUNICORN_GTHREAD = Server("gunicorn gthread", "gunicorn", _gunicorn(*GTHREAD), "#117733")
GUNICORN_GTHREAD_LOGGED = Server(
    "gunicorn gthread, access log", "gunicorn", _gunicorn(*GTHREAD, "--access-logfile", "{scratch}/access.log"), "#66aa77"
)
GUNICORN_SYNC = Server("gunicorn sync", "gunicorn", _gunicorn("--worker-class", "sync"), "#999933", threaded=False)
GUNICORN_GTHREAD_PRELOAD = Server("gunicorn gthread, preloaded", "gunicorn", _gunicorn(*GTHREAD, "--preload"), "#44aa99")
GRANIAN = Server("granian", "granian", _granian(), "#332288")
GRANIAN_FLUSH = Server("granian, pipeline flush", "granian", _granian("--http1-pipeline-flush"), "#6655cc")
WAITRESS = Server("waitress", "waitress", _waitress, "#88ccee", multiple=False)
UVICORN = Server("uvicorn+a2wsgi", "a2wsgi", _uvicorn, "#aa4499")
CHEROOT = Server("cheroot", "cheroot", _cheroot, "#ddcc77", multiple=False)
BJOERN = Server(
    "bjoern",
    "bjoern",
    _launch("bjoern"),
    "#000000",
    install="pip install bjoern; it is built, with the headers of libev (Debian: libev-dev)",
    threaded=False,
    multiple=False,
)
FASTWSGI = Server(
    "FastWSGI",
    "fastwsgi",
    _launch("fastwsgi"),
    "#888888",
    install="pip install fastwsgi 'setuptools<81'",
    threaded=False,
    multiple=False,
)
PERL_STARMAN = Server("Starman (Perl)", "starman", _perl, "#cc6677", install="Debian: apt install starman", psgi=True)

# In the order of tables and plots.
PEERS = (GRANIAN, BJOERN, FASTWSGI, WAITRESS, GUNICORN_GTHREAD, GUNICORN_SYNC, UVICORN, CHEROOT, PERL_STARMAN)
ALL = (STARMAN, STARMAN_COMPILED, STARMAN_INLINE, *PEERS)
SERVERS = {server.name: server for server in (*ALL, STARMAN_LOGGED, *STARMAN_LOG_FORMATS, GUNICORN_GTHREAD_LOGGED, GRANIAN_FLUSH)}
