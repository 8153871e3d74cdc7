"""The table of scenarios: which application, how wrk asks for it, with which workers and threads."""

from __future__ import annotations

from dataclasses import dataclass

from bench.servers import GUNICORN_GTHREAD, GUNICORN_SYNC, STARMAN, Server


@dataclass(frozen=True, slots=True)
class Scenario:
    """One comparison. The first server is the one that the others are compared with.

    `application` is "module:name"; `connections` are open at the same time, each with one request under way.
    `keep_alive` False sends `Connection: close` with every request.
    """

    name: str
    summary: str
    application: str
    servers: tuple[Server, ...]
    path: str = "/"
    connections: int = 32
    workers: int = 1
    threads: int = 4
    keep_alive: bool = True


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            name="hello",
            summary="a constant, keep-alive, 32 connections, one worker, 4 threads",
            application="bench.applications:hello",
            servers=(STARMAN, GUNICORN_GTHREAD, GUNICORN_SYNC),
        ),
        Scenario(
            name="hello-close",
            summary="a constant, a new connection for each request, 32 at a time, one worker, 4 threads",
            application="bench.applications:hello",
            servers=(STARMAN, GUNICORN_GTHREAD, GUNICORN_SYNC),
            keep_alive=False,
        ),
    )
}
DEFAULT = "hello"
