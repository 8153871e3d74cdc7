"""The table of scenarios: which application, which load, which servers. A new scenario is one entry."""

from __future__ import annotations

from dataclasses import dataclass

from bench.servers import (
    ALL,
    GRANIAN,
    GRANIAN_FLUSH,
    GUNICORN_GTHREAD,
    GUNICORN_GTHREAD_LOGGED,
    GUNICORN_SYNC,
    STARMAN,
    STARMAN_COMPILED,
    STARMAN_LOG_FORMATS,
    STARMAN_LOGGED,
    UVICORN,
    Server,
)
from bench.workloads import IO_SECONDS


@dataclass(frozen=True, slots=True)
class Load:
    """What the client does, for the time of a round.

    `connections` are open at the same time, each with one request under way, or with `pipelined` ones; without
    `keep_alive` each request has a connection of its own. `upload_bytes` more than 0 makes a POST of each request, and
    `fields` are so many header fields more. With `per_second` requests come at random instants at that mean rate, on
    whichever connection is free, and their latency counts from the instant they should have been sent. Of
    `slow_percent` of the requests the path is `/slow`. So many as `newcomers` says of the connections are made anew
    for each of their requests, and their latencies are apart. With `whole`, a request that has begun is awaited when
    the time is up: for those that may take longer than it.
    """

    connections: int = 32
    keep_alive: bool = True
    pipelined: int = 1
    upload_bytes: int = 0
    fields: int = 0
    per_second: int = 0
    slow_percent: float = 0.0
    newcomers: int = 0
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Beside:
    """Connections of another process beside the load: `idle` after one request each, or reading `/large` slowly."""

    kind: str
    connections: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """One comparison. The other servers are compared with the first one.

    `application` is "module:name", and `psgi` the same for Perl. Each server is started with each number in
    `workers`. With `shared` cores, servers and client run on both; otherwise on one each. `ideal`: the rate that
    the application itself allows, per thread; 0 if there is no such limit. With `peak`, memory is the highest
    during the run. With `nginx`, each server is on a UNIX socket behind an nginx of its own, which shares the client's
    core.
    """

    name: str
    summary: str
    application: str = "bench.applications:hello"
    load: Load = Load()
    servers: tuple[Server, ...] = ALL
    path: str = "/"
    workers: tuple[int, ...] = (1,)
    threads: int = 4
    beside: Beside | None = None
    psgi: str = ""
    shared: bool = False
    ideal: float = 0.0
    peak: bool = False
    nginx: bool = False


HELLO_PSGI = "bench/hello.psgi"
SITE = "bench.workloads:site"
BEHIND_NGINX = (STARMAN_COMPILED, STARMAN, GRANIAN, GUNICORN_GTHREAD)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("hello", "a constant of 14 bytes, keep-alive, 32 connections", psgi=HELLO_PSGI),
        Scenario("hello-1", "the same, 1 connection", load=Load(1), psgi=HELLO_PSGI),
        Scenario("hello-256", "the same, 256 connections", load=Load(256), psgi=HELLO_PSGI),
        Scenario(
            "hello-close",
            "the same, a new connection for each request, 32 at a time",
            load=Load(keep_alive=False),
            psgi=HELLO_PSGI,
        ),
        Scenario(
            "hello-pipelined",
            "the same, 16 requests at once on each of 32 connections; the longest is that of all 16",
            load=Load(pipelined=16),
            servers=(*ALL, GRANIAN_FLUSH),
            psgi=HELLO_PSGI,
        ),
        Scenario("flask", "Flask hello, 32 connections", "bench.flask_application:application"),
        Scenario("django", "Django hello, 32 connections", "bench.django_application:application"),
        Scenario(
            "flask-nginx",
            "Flask hello behind nginx, by a UNIX socket, 32 connections",
            "bench.flask_application:application",
            servers=BEHIND_NGINX,
            nginx=True,
        ),
        Scenario(
            "django-nginx",
            "Django hello behind nginx, by a UNIX socket, 32 connections",
            "bench.django_application:application",
            servers=BEHIND_NGINX,
            nginx=True,
        ),
        Scenario("json", "10 kB of JSON made for each request, 32 connections", "bench.workloads:document"),
        Scenario("body", "a constant of 1 MB, 32 connections", "bench.workloads:megabyte"),
        Scenario("stream", "64 blocks of 16 kB, 32 connections", "bench.workloads:stream"),
        Scenario("rows", "1,000 rows of a table, made and yielded one by one, 32 connections", "bench.workloads:rows"),
        Scenario("file", "a file of 1 MB by wsgi.file_wrapper, 32 connections", "bench.workloads:file"),
        Scenario("upload", "1 MB sent and read, 32 connections", "bench.workloads:upload", Load(upload_bytes=1_000_000)),
        Scenario("io", "an application that waits 5 ms, 32 connections", "bench.workloads:waiting", ideal=1 / IO_SECONDS),
        Scenario("cpu", "an application that computes for 0.4 ms, 32 connections", "bench.workloads:computing"),
        Scenario(
            "mix",
            "hello, and 5 % that wait 50 ms, on 32 connections; latency is that of hello",
            SITE,
            Load(slow_percent=5.0),
        ),
        Scenario(
            "mix-paced",
            "the same at random instants, 300 a second: threads are seldom all taken",
            SITE,
            Load(slow_percent=5.0, per_second=300),
        ),
        Scenario("idle", "hello on 32 connections beside 10,000 idle ones", SITE, beside=Beside("idle", 10_000)),
        Scenario("slow-readers", "hello on 32 connections beside 100 that read 4 MB at 5 kB/s", SITE, beside=Beside("slow", 100)),
        Scenario(
            "access-log",
            "hello on 32 connections, the access log on, in each format",
            servers=(STARMAN_LOGGED, STARMAN, *STARMAN_LOG_FORMATS, GUNICORN_GTHREAD, GUNICORN_GTHREAD_LOGGED),
        ),
        Scenario(
            "workers",
            "hello on 32 connections, 1 and 2 workers, on two cores that the client shares",
            servers=(STARMAN, GRANIAN, GUNICORN_GTHREAD, GUNICORN_SYNC, UVICORN),
            workers=(1, 2),
            shared=True,
        ),
    )
}
# What is measured when nothing is named.
DEFAULT = ("hello",)
