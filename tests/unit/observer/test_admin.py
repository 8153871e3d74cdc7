"""starman.observer.admin: the pages, who may read them, and nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from starman.observer.access import Access
from starman.observer.admin import AdminApplication
from starman.observer.master_link import MasterSilentError
from tests.unit.observer.metrics.observed import document, worker

PAGES = ("/healthz", "/readyz", "/status", "/metrics")


class Client:
    def __init__(self, status: dict[str, Any] | Exception, token: str = "", hosts: tuple[str, ...] = ()) -> None:
        self.status = status
        self.application = AdminApplication(
            Access(token, hosts),
            self.report,
            self.read,
            lambda accept: (self.read()["version"].encode(), f"text/{accept}"),
            {"/": lambda environ: ("200 OK", [], b"page"), "/events": lambda environ: ("200 OK", [], iter([b"event"]))},
        )

    def report(self) -> dict[str, Any]:
        status = self.read()
        return {"phase": status["phase"], "ready": status["workers_ready"]}

    def read(self) -> dict[str, Any]:
        if isinstance(self.status, Exception):
            raise self.status
        return self.status

    def get(self, path: str, method: str = "GET", **fields: str) -> tuple[int, dict[str, str], bytes]:
        got: list[Any] = []
        environ = {"PATH_INFO": path, "REQUEST_METHOD": method, **{f"HTTP_{name}": value for name, value in fields.items()}}
        body = b"".join(self.application(environ, lambda *head: got.extend(head)))
        headers = dict(got[1])
        assert headers.get("Content-Length") == (None if body == b"event" else str(len(body)))
        return int(got[0].split()[0]), headers, body


@pytest.fixture
def client() -> Client:
    return Client(document(worker(1, 11)))


def test_health_and_readiness_of_a_server_that_serves(client: Client) -> None:
    assert client.get("/healthz")[::2] == (200, b"ok\n")
    assert client.get("/readyz")[::2] == (200, b"ready\n")


@pytest.mark.parametrize(
    ("phase", "reason"), [("starting", b"starting\n"), ("stopping", b"stopping\n"), ("running", b"no worker is ready\n")]
)
def test_a_server_that_is_not_ready_is_still_alive(phase: str, reason: bytes) -> None:
    client = Client(document(phase=phase))
    assert client.get("/readyz")[::2] == (503, reason)
    assert client.get("/healthz")[0] == 200


def test_a_page_may_be_a_stream(client: Client) -> None:
    code, headers, body = client.get("/events")
    assert (code, headers["Cache-Control"], body) == (200, "no-store", b"event")


def test_status_is_the_document(client: Client) -> None:
    code, headers, body = client.get("/status")
    assert (code, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body) == client.status


def test_metrics_are_in_the_format_that_the_client_accepts(client: Client) -> None:
    code, headers, body = client.get("/metrics", ACCEPT="special")
    assert (code, headers["Content-Type"], headers["Vary"], body) == (200, "text/special", "Accept", b"1.2.3")


@pytest.mark.parametrize("path", ["", "/index.html", "/metrics/", "/Metrics", "/status.json", "//healthz", "/debug"])
def test_any_other_path_is_not_found(client: Client, path: str) -> None:
    assert client.get(path)[0] == 404


@pytest.mark.parametrize("path", PAGES)
def test_other_methods_are_refused(client: Client, path: str) -> None:
    assert client.get(path, "HEAD")[0] == 200
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "BREW"):
        code, headers, _ = client.get(path, method)
        assert (code, headers["Allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize("given", [None, "Bearer wrong", "Bearer", "secret", "Basic secret", "Bearer secret2", "Bearer \xfc"])
def test_status_and_metrics_need_the_token_and_probes_do_not(given: str | None) -> None:
    client = Client(document(worker(1, 11)), "secret")
    fields = {} if given is None else {"AUTHORIZATION": given}
    for path in ("/status", "/metrics", "/events"):
        code, headers, body = client.get(path, **fields)
        assert (code, headers["WWW-Authenticate"]) == (401, 'Bearer realm="starman"')
        assert b"1.2.3" not in body
        assert client.get(path, AUTHORIZATION="Bearer secret")[0] == client.get(path, AUTHORIZATION="bearer  secret")[0] == 200
    assert client.get("/healthz", **fields)[0] == client.get("/readyz", **fields)[0] == 200
    assert client.get("/", **fields)[2] == b"page"


PROTECTED = ("/", "/events", "/status", "/metrics")
HERE = ("127.0.0.1", "127.0.0.1:9100", "[::1]:9100", "[2001:db8::1]", "10.1.2.3", "localhost", "LocalHost:9100", "a.localhost")


@pytest.mark.parametrize("host", [*HERE, "localhost.", ""])
def test_addresses_and_localhost_are_allowed_in_host(client: Client, host: str) -> None:
    assert [client.get(path, HOST=host)[0] for path in PROTECTED] == [200] * 4


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:9100", "127.0.0.1.evil.example", "localhost.evil.example", "xlocalhost", "127.1", "[v1.x]"],
)
def test_other_names_are_misdirected_without_a_token(client: Client, host: str) -> None:
    for path in PROTECTED:
        code, _, body = client.get(path, HOST=host)
        assert code == 421
        assert b"admin_hosts" in body
        assert b"1.2.3" not in body
    assert client.get("/healthz", HOST=host)[0] == client.get("/readyz", HOST=host)[0] == 200
    token = Client(client.status, "secret")
    assert token.get("/metrics", HOST=host, AUTHORIZATION="Bearer secret")[0] == 200
    assert token.get("/metrics", HOST=host)[0] == 401
    assert token.get("/", HOST=host)[0] == 200
    assert Client(client.status, hosts=("*",)).get("/metrics", HOST=host)[0] == 200


def test_names_of_the_setting_are_allowed(client: Client) -> None:
    named = Client(client.status, hosts=("starman.example", "web"))
    for host in ("starman.example", "Starman.Example.:9100", "web:1", "127.0.0.1"):
        assert named.get("/status", HOST=host)[0] == 200
    for host in ("other.starman.example", "starman.example.org", "we"):
        assert named.get("/status", HOST=host)[0] == 421


def test_pages_of_other_sites_are_refused(client: Client) -> None:
    for path in ("/events", "/status", "/metrics"):
        for site in ("cross-site", "same-site"):
            assert client.get(path, SEC_FETCH_SITE=site)[0] == 403
        for site in ("same-origin", "none"):
            assert client.get(path, SEC_FETCH_SITE=site)[0] == 200
    assert client.get("/", SEC_FETCH_SITE="cross-site")[0] == 200, "a link may lead to the page"


@pytest.mark.parametrize("path", PAGES)
def test_a_silent_master_is_an_error(path: str) -> None:
    code, _, body = Client(MasterSilentError("has not answered for 5 s")).get(path)
    assert (code, body) == (503, b"the master has not answered for 5 s\n")
