"""Which requests `--admin-listen` answers: names in Host, pages of other sites in a real Chromium, and tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.functional.support.browser import Browser
from tests.functional.support.harness import NotReadyError, Server
from tests.functional.support.metrics import admin_url, get

APPLICATION = """\
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/html")])
    return [b"<title>another site</title>"]
"""
ADMIN = ("--admin-listen", "127.0.0.1:0", "--workers", "1")
PATHS = ("/", "/events", "/stacks?pid=1", "/status", "/metrics")
PROBES = ("/healthz", "/readyz")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "site_app.py").write_text(APPLICATION)
    return tmp_path


def codes(url: str, paths: tuple[str, ...], **fields: str) -> set[int]:
    # A stream of events would not end.
    return {get(url, path, "HEAD" if path == "/events" else "GET", fields)[0] for path in paths}


def test_only_addresses_localhost_and_named_hosts_without_a_token(site: Path) -> None:
    with Server("site_app:app", *ADMIN, "--admin-hosts", "prometheus.example,web", cwd=site) as server:
        url = admin_url(server)
        for host in ("127.0.0.1:9100", "[::1]", "localhost", "Prometheus.example", "web:9100"):
            assert codes(url, ("/", "/events", "/status", "/metrics"), Host=host) == {200}
        assert codes(url, PATHS, Host="evil.example") == {421}
        assert codes(url, PROBES, Host="evil.example") == {200}
        assert "admin_hosts" in get(url, "/metrics", fields={"Host": "evil.example"})[2]
        assert codes(url, ("/events", "/stacks?pid=1", "/status", "/metrics"), **{"Sec-Fetch-Site": "cross-site"}) == {403}
        assert codes(url, ("/", *PROBES), **{"Sec-Fetch-Site": "cross-site"}) == {200}


def test_any_host_with_a_token(site: Path) -> None:
    with Server("site_app:app", *ADMIN, "--admin-token", "s3cret", cwd=site) as server:
        url = admin_url(server)
        allowed = {"Host": "any.example", "Authorization": "Bearer s3cret"}
        assert codes(url, ("/", "/events", "/status", "/metrics"), **allowed) == {200}
        assert codes(url, PATHS[1:], Host="any.example") == {401}
        assert codes(url, PROBES, Host="any.example") == {200}


def test_a_page_of_another_site_reads_nothing_in_a_real_browser(site: Path, tmp_path: Path) -> None:
    """Neither by requests to the address, nor by DNS rebinding, where its own name points to the address."""
    rebinding = "--host-resolver-rules=MAP evil.example 127.0.0.1"
    with (
        Server("site_app:app", *ADMIN, cwd=site) as server,
        Server("site_app:app", "--workers", "1", cwd=site) as other,
        Browser(tmp_path / "browser", rebinding) as browser,
    ):
        url = admin_url(server)
        rebound = url.replace("127.0.0.1", "evil.example")
        browser.open(rebound)
        assert "this name in Host is not allowed" in browser.evaluate("document.body.textContent")
        for path in ("status", "metrics", "events", "stacks?pid=1"):
            found = ask(browser, path)
            assert found[0] == 421
            assert str(server.pid) not in found[1]
        # The same requests from the page itself, by the address, are answered.
        browser.open(url)
        assert ask(browser, "status")[0] == 200
        # Another site on the same machine: the answer is refused, and not only hidden from its scripts.
        browser.open(f"http://127.0.0.1:{other.port}/")
        assert browser.evaluate("document.title") == "another site"
        assert ask(browser, f"{url}/status") == [0, "not read"]
        browser.errors.clear()


def ask(browser: Browser, path: str) -> list[object]:
    """The status and the text of an answer, for a script of the page that is open."""
    browser.evaluate(
        f"window.found = null; fetch({json.dumps(path)}).then(async (answer) => [answer.status, await answer.text()])"
        ".catch(() => [0, 'not read']).then((each) => { window.found = each; }); 0"
    )
    found: list[object] = json.loads(browser.wait_for("window.found && JSON.stringify(window.found)"))
    return found


@pytest.mark.parametrize("hosts", ["http://web", "web:9100", "b\u00fcro.example"])
def test_a_host_that_cannot_be_in_a_request_fails_the_start(site: Path, hosts: str) -> None:
    with pytest.raises(NotReadyError) as caught:
        Server("site_app:app", *ADMIN, "--admin-hosts", hosts, cwd=site)
    assert "--admin-hosts: " in caught.value.log
    assert caught.value.status == 2
