"""A real Prometheus scrapes a server, counts what clients count, and accepts the queries of the dashboard."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.support.harness import APPLICATION, REPOSITORY, Process, Server, free_ports, wait_until
from tests.functional.support.metrics import admin_url, get
from tests.functional.support.tools import find_tool

DASHBOARD = REPOSITORY / "examples" / "grafana-dashboard.json"
CONFIGURATION = """\
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs:
  - job_name: starman
    authorization: {credentials: s3cret}
    static_configs: [{targets: ["TARGET"]}]
"""
# What the variables of the dashboard stand for.
VARIABLES = {"$__rate_interval": "5s", "$instance": ".+", "$datasource": "x"}


class Prometheus(Process):
    def __init__(self, directory: Path, target: str) -> None:
        (directory / "prometheus.yml").write_text(CONFIGURATION.replace("TARGET", target))
        (port,) = free_ports()
        self.url = f"http://127.0.0.1:{port}"
        command = [
            find_tool("prometheus"),
            "--config.file=prometheus.yml",
            "--storage.tsdb.path=data",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        super().__init__(command, cwd=directory)
        self.wait_for("Server is ready to receive web requests")

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result of an instant query. Fails for an expression that is not valid."""
        code, _, text = get(self.url, "/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        assert code == 200, f"{expression}: {text}"
        found: list[dict[str, Any]] = json.loads(text)["data"]["result"]
        return found

    def value(self, expression: str) -> float | None:
        """The value of the only sample; None: there is none."""
        result = self.query(expression)
        return float(result[0]["value"][1]) if len(result) == 1 else None


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prometheus")


@pytest.fixture(scope="module")
def server(directory: Path) -> Iterator[Server]:
    find_tool("prometheus")
    with Server(APPLICATION, "--admin-listen", "127.0.0.1:0", "--admin-token", "s3cret", "--workers", "2", cwd=directory) as made:
        yield made


@pytest.fixture(scope="module")
def prometheus(directory: Path, server: Server) -> Iterator[Prometheus]:
    made = Prometheus(directory, admin_url(server).removeprefix("http://"))
    try:
        yield made
    finally:
        made.stop(signal.SIGTERM)


def test_prometheus_counts_what_clients_have_counted(server: Server, prometheus: Prometheus) -> None:
    assert wait_until(lambda: prometheus.value("up") == 1.0), prometheus.log
    for _ in range(50):
        with server.client() as client:
            assert client.get("/pid").status == 200
    assert wait_until(lambda: prometheus.value("sum(http_server_request_duration_seconds_count)") == 50.0)
    assert prometheus.value('http_server_request_duration_seconds_bucket{le="+Inf"}') == 50.0
    assert prometheus.value("starman_ready") == 1.0
    assert prometheus.value('starman_workers{state="ready"}') == 2.0
    assert prometheus.value('starman_process_private_bytes{role="worker",worker="1"} > 1e6') is not None
    assert prometheus.value("starman_listen_backlog_limit > 0") is not None
    assert {found["metric"]["url_scheme"] for found in prometheus.query("http_server_request_duration_seconds_count")} == {"http"}


def test_promtool_accepts_what_a_server_answers(server: Server) -> None:
    promtool = find_tool("promtool")
    _, _, text = get(admin_url(server), "/metrics", fields={"Authorization": "Bearer s3cret"})
    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_prometheus_accepts_the_queries_of_the_dashboard(server: Server, prometheus: Prometheus) -> None:
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(set(titles)) == len(titles) >= 10
    assert wait_until(lambda: prometheus.value("up") == 1.0)
    with server.client() as client:
        assert client.get("/pid").status == 200
    expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]

    def all_have_values() -> bool:
        return all(prometheus.query(filled(expression)) for expression in expressions)

    assert wait_until(all_have_values), [each for each in expressions if not prometheus.query(filled(each))]


def filled(expression: str) -> str:
    """The expression with values for Grafana's variables."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert not re.search(r"\$\w", expression)
    return expression
