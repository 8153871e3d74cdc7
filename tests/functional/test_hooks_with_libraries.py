"""Hooks with what they are for: prometheus_client, Sentry, OpenTelemetry and psycopg_pool, preloaded and not."""

from __future__ import annotations

import gzip
import json
import os
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.functional.support.harness import Server, wait_until
from tests.functional.support.load import Load
from tests.functional.support.postgresql import postgresql

MODES = pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])


class Site:
    """The directory of an application and its hooks."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def serve(self, application: str, hooks: str, *arguments: str, **env: str) -> Server:
        (self.directory / "site_app.py").write_text(application)
        (self.directory / "site_hooks.py").write_text(hooks)
        return Server(
            *("site_app:app", "--hooks", "site_hooks", "--workers", "2", *arguments),
            cwd=self.directory,
            env={"PYTHONDONTWRITEBYTECODE": "1", **env},
        )


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def kill_worker(server: Server) -> int:
    """Kill a worker that serves. Returns its process id."""
    assert wait_until(lambda: len(server.worker_pids()) == 2)
    pid = server.worker_pids()[0]
    os.kill(pid, signal.SIGKILL)
    server.wait_for(rf"\({pid}\) was killed by SIGKILL")
    assert wait_until(lambda: len(server.worker_pids()) == 2)
    return pid


# prometheus_client


METRICS = """\
import os
from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest, multiprocess

REQUESTS = Counter("site_requests", "Requests")
WORKING = Gauge("site_working", "Whether a worker lives", multiprocess_mode="liveall")

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    if environ["PATH_INFO"] == "/metrics":
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)
        return [generate_latest(registry)]
    WORKING.set(1)
    REQUESTS.inc()
    return [b"%d" % os.getpid()]
"""

PROMETHEUS_HOOKS = """\
import os, pathlib, shutil
from prometheus_client import multiprocess
from starman import hooks

@hooks.starting
def empty_directory():
    shutil.rmtree(os.environ["PROMETHEUS_MULTIPROC_DIR"], ignore_errors=True)
    os.mkdir(os.environ["PROMETHEUS_MULTIPROC_DIR"])

@hooks.worker_ended
def forget(worker):
    multiprocess.mark_process_dead(worker.pid)
"""


def metrics(server: Server) -> dict[str, float]:
    texts: list[str] = []

    def answered() -> bool:
        # prometheus_client fails when another process has created a file and not filled it yet.
        with server.client() as client:
            response = client.get("/metrics")
        texts.append(response.body.decode())
        return response.status == 200

    assert wait_until(answered), texts
    text = texts[-1]
    lines = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, value in lines}


@MODES
def test_prometheus_forgets_the_gauges_of_a_killed_worker(site: Site, mode: str) -> None:
    directory = site.directory / "metrics"
    directory.mkdir()
    (directory / "counter_1.db").write_text("of the last start")
    with site.serve(METRICS, PROMETHEUS_HOOKS, mode, PROMETHEUS_MULTIPROC_DIR=str(directory)) as server:
        seen: set[int] = set()
        while len(seen) < 2:
            with server.client() as client:
                seen.add(int(client.get("/").body))
        assert all(f'site_working{{pid="{pid}"}}' in metrics(server) for pid in seen)
        pid = kill_worker(server)
        assert wait_until(lambda: f'site_working{{pid="{pid}"}}' not in metrics(server))
        (other,) = seen - {pid}
        assert f'site_working{{pid="{other}"}}' in metrics(server)
        # What it has counted is not lost.
        assert metrics(server)["site_requests_total"] >= 2
        workers = server.worker_pids()
    # The ends of the stop are reported as well. The file of a mold that has made the gauge stays.
    left = {path.name for path in directory.glob("gauge_liveall_*")}
    assert not left & {f"gauge_liveall_{pid}.db" for pid in (*seen, *workers)}
    assert len(left) == (mode == "--preload-app")


PLACES = """\
from prometheus_client import values
from starman import hooks

values.ValueClass = values.MultiProcessValue(process_identifier=lambda: hooks.worker_place() or 0)
"""


@MODES
def test_prometheus_needs_few_files_with_the_places_of_workers(site: Site, mode: str) -> None:
    """With worker_number, two workers would write to the same file during each restart, and lose counts."""
    directory = site.directory / "metrics"
    with site.serve(
        PLACES + METRICS, PROMETHEUS_HOOKS.split("@hooks.worker_ended")[0], mode, PROMETHEUS_MULTIPROC_DIR=str(directory)
    ) as server:
        with Load(server.client, "/") as load:
            for restart in range(1, 4):
                server.signal(signal.SIGHUP)
                server.wait_for("restarted: 2 workers are new", count=restart)
        answered = sum(load.answers.values())
        assert load.failures == []
        assert wait_until(lambda: metrics(server)["site_requests_total"] == answered), (metrics(server), answered)
        kill_worker(server)
        with server.client() as client:
            client.get("/")
        assert metrics(server)["site_requests_total"] == answered + 1
        files = [path.name for path in directory.glob("counter_*")]
        # 0: the mold's, where the application is preloaded.
        assert {name.removeprefix("counter_").removesuffix(".db") for name in files} <= {"0", "1", "2", "3", "4"}


# Sentry


class Sentry:
    """A stand-in for the server of Sentry: keeps the events that arrive."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        sentry = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                # An envelope: a line of JSON about the whole, then a line of JSON and a payload for each item.
                lines = body.split(b"\n")
                for head, payload in zip(lines[1::2], lines[2::2], strict=False):
                    if head and json.loads(head).get("type") == "event":
                        sentry.events.append(json.loads(payload))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *arguments: object) -> None:
                """Keep requests out of the log of the test."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.dsn = f"http://key@127.0.0.1:{self.server.server_port}/1"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()

    def messages(self) -> list[str]:
        """The text of each event: of its exception, or of its message."""
        found = []
        for event in list(self.events):
            if "exception" in event:
                found.append(str(event["exception"]["values"][-1]["value"]))
            else:
                found.append(str(event.get("message") or event["logentry"]["message"]))
        return found


@pytest.fixture
def sentry() -> Iterator[Sentry]:
    server = Sentry()
    yield server
    server.close()


FAILING = """\
import os
import sentry_sdk
from sentry_sdk.integrations.wsgi import SentryWsgiMiddleware
from starman import hooks

def application(environ, start_response):
    if environ["PATH_INFO"] == "/fail":
        raise ValueError(f"of worker {environ['starman.worker_number']}")
    if environ["PATH_INFO"] == "/last":
        sentry_sdk.capture_message("the last message")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % environ["starman.worker_number"]]

app = SentryWsgiMiddleware(application)
"""

SENTRY_HOOKS = """\
import os
import sentry_sdk
from starman import hooks

sentry_sdk.init(os.environ["SITE_DSN"], shutdown_timeout=5, debug=False)

@hooks.worker_lost
def report(worker):
    sentry_sdk.capture_message(f"worker {worker.number} was lost by {worker.signal}")

hooks.worker_exit(sentry_sdk.flush)
hooks.stopped(sentry_sdk.flush)
"""


@MODES
def test_sentry_reports_failures_of_each_worker_and_lost_workers(site: Site, sentry: Sentry, mode: str) -> None:
    with site.serve(FAILING, SENTRY_HOOKS, mode, SITE_DSN=sentry.dsn) as server:
        numbers: set[bytes] = set()
        while len(numbers) < 2:
            with server.client() as client:
                numbers.add(client.get("/").body)
                assert client.get("/fail").status == 500
        assert wait_until(lambda: {"of worker 1", "of worker 2"} <= set(sentry.messages()))
        kill_worker(server)
        assert wait_until(lambda: any("was lost by SIGKILL" in message for message in sentry.messages()))
        with server.client() as client:
            assert client.get("/last").status == 200
        server.stop()
        # Sent before its worker ended.
        assert "the last message" in sentry.messages()


# OpenTelemetry


TRACED = """\
from opentelemetry import trace

tracer = trace.get_tracer("site")

def app(environ, start_response):
    with tracer.start_as_current_span("call") as span:
        span.set_attribute("path", environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"%d" % environ["starman.worker_number"]]
"""

TRACING_HOOKS = """\
import os
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
from starman import hooks

providers = []

@hooks.after_fork
def trace_worker():
    # The batch processor has a thread, which must be that of the worker.
    number = hooks.worker_number()
    provider = TracerProvider(resource=Resource.create({"service.name": "site", "service.instance.id": str(number)}))
    file = open(f"spans-{number}.txt", "a", buffering=1)
    exporter = ConsoleSpanExporter(out=file, formatter=lambda span: span.to_json(indent=None) + "\\n")
    provider.add_span_processor(BatchSpanProcessor(exporter, schedule_delay_millis=60_000))
    trace.set_tracer_provider(provider)
    providers.append(provider)

@hooks.worker_exit
def export_the_rest():
    for provider in providers:
        provider.shutdown()
"""


@MODES
def test_opentelemetry_loses_no_span_of_a_worker_that_ends_in_order(site: Site, mode: str) -> None:
    sent = {b"1": 0, b"2": 0}
    with site.serve(TRACED, TRACING_HOOKS, mode) as server:
        while not all(sent.values()):
            with server.client() as client:
                sent[client.get("/").body] += 1
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new")
        for _ in range(5):
            with server.client() as client:
                sent[client.get("/").body] += 1
        server.stop()
    for number, count in sent.items():
        lines = (site.directory / f"spans-{int(number)}.txt").read_text().splitlines()
        spans = [json.loads(line) for line in lines]
        assert len(spans) == count
        assert {span["resource"]["attributes"]["service.instance.id"] for span in spans} == {number.decode()}


# psycopg_pool


POOLED = """\
import os
from psycopg_pool import ConnectionPool
from starman import hooks

pool = ConnectionPool(os.environ["SITE_DATABASE"], kwargs={"application_name": "site"}, min_size=2, max_size=4, open=False)

@hooks.after_fork
def open_pool():
    pool.open(wait=True)

hooks.worker_exit(pool.close)

def app(environ, start_response):
    with pool.connection() as connection:
        backend = connection.execute("SELECT pg_backend_pid()").fetchone()[0]
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {backend}".encode()]
"""

POOL_HOOKS = """\
import os
import psycopg
from starman import hooks

def execute(statement, *values):
    with psycopg.connect(os.environ["SITE_DATABASE"]) as connection:
        connection.execute(statement, values)

@hooks.starting
def make_table():
    execute("CREATE TABLE lost_workers (number integer, signal text)")

@hooks.worker_lost
def record(worker):
    execute("INSERT INTO lost_workers VALUES (%s, %s)", worker.number, worker.signal)
"""


@pytest.fixture
def database() -> Iterator[str]:
    with postgresql() as conninfo:
        yield conninfo


def rows(conninfo: str, query: str) -> list[tuple[Any, ...]]:
    import psycopg

    with psycopg.connect(conninfo) as connection:
        return connection.execute(query.encode()).fetchall()


@MODES
def test_a_pool_of_postgresql_connections_belongs_to_each_worker(site: Site, database: str, mode: str) -> None:
    connections = "SELECT pid FROM pg_stat_activity WHERE application_name = 'site'"
    with site.serve(POOLED, POOL_HOOKS, mode, SITE_DATABASE=database) as server:
        backends: dict[int, set[int]] = {}
        with Load(server.client, "/"):
            while len(backends) < 2 or sum(map(len, backends.values())) < 4:
                with server.client() as client:
                    worker, backend = map(int, client.get("/").body.split())
                backends.setdefault(worker, set()).add(backend)
        first, second = backends.values()
        assert not first & second, "no connection is shared"
        assert set(backends) == set(server.worker_pids())
        kill_worker(server)
        assert wait_until(lambda: len(rows(database, "SELECT * FROM lost_workers")) == 1)
        ((number, name),) = rows(database, "SELECT * FROM lost_workers")
        assert (number in (1, 2), name) == (True, "SIGKILL")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new")

        def serves_new_worker() -> bool:
            with server.client() as client:
                return int(client.get("/").body.split()[0]) not in backends

        assert wait_until(serves_new_worker)  # an old worker may accept one more connection before it hears of its end
        server.stop()
        # Each worker has closed its pool.
        assert wait_until(lambda: rows(database, connections) == [])
    assert "Traceback" not in server.log
