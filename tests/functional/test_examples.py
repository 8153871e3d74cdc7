"""Every example is started as its page says, and used by real clients: sessions of requests, and curl."""

from __future__ import annotations

import hashlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.functional.support.applications import pattern
from tests.functional.support.harness import REPOSITORY, Process, Server, environment
from tests.functional.support.tools import curl

EXAMPLES = REPOSITORY / "examples"


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


# hello.py


def test_hello_by_path(session: requests.Session) -> None:
    with Server("examples/hello.py") as server:
        assert server.workers >= 2
        for _ in range(3):
            response = session.get(server.url)
            assert (response.status_code, response.text) == (200, "Hello from starman\n")
        assert curl(server.url).stdout == b"Hello from starman\n"


# flask_app.py


@pytest.fixture(scope="module")
def flask() -> Iterator[Server]:
    with Server("flask_app:app", "--workers", "2", cwd=EXAMPLES, warnings="default") as server:
        yield server


def test_flask_page_and_form(flask: Server, session: requests.Session) -> None:
    assert "<h1>Hello</h1>" in session.get(f"{flask.url}/").text
    assert "<h1>Hello, Tove &amp; Mia</h1>" in session.post(f"{flask.url}/form", {"name": "Tove & Mia"}).text
    assert session.post(f"{flask.url}/form").status_code == 400
    assert session.get(f"{flask.url}/nowhere").status_code == 404


def test_flask_json(flask: Server, session: requests.Session) -> None:
    assert session.post(f"{flask.url}/json", json={"numbers": [1, 2, 39]}).json() == {"sum": 42}


def test_flask_stream(flask: Server, session: requests.Session) -> None:
    with session.get(f"{flask.url}/stream?lines=5000", stream=True) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert list(response.iter_lines(decode_unicode=True)) == [f"line {number}" for number in range(5000)]


def test_flask_upload(flask: Server, session: requests.Session) -> None:
    body = pattern(5_000_000)
    expected = {"length": len(body), "md5": hashlib.md5(body).hexdigest()}
    assert session.post(f"{flask.url}/upload", data=body).json() == expected
    assert session.post(f"{flask.url}/upload", files={"file": ("pattern.txt", body)}).json() == expected
    chunks = (body[offset : offset + 77_777] for offset in range(0, len(body), 77_777))
    assert session.post(f"{flask.url}/upload", data=chunks).json() == expected


def test_flask_download(flask: Server, session: requests.Session) -> None:
    response = session.get(f"{flask.url}/download")
    assert response.content == (EXAMPLES / "flask_app.py").read_bytes()
    assert "attachment" in response.headers["Content-Disposition"]
    assert session.get(f"{flask.url}/download?kind=memory").content == b"0123456789" * 100_000
    unchanged = session.get(f"{flask.url}/download", headers={"If-None-Match": response.headers["ETag"]})
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    part = session.get(f"{flask.url}/download", headers={"Range": "bytes=10-19"})
    assert (part.status_code, part.content) == (206, response.content[10:20])


def test_flask_with_curl(flask: Server, tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    upload.write_bytes(pattern(3_000_000))
    by_length = curl("--data-binary", f"@{upload}", "-H", "Content-Type: application/octet-stream", f"{flask.url}/upload")
    by_chunks = curl("-T", str(upload), "-X", "POST", "-H", "Transfer-Encoding: chunked", f"{flask.url}/upload")
    assert by_length.stdout == by_chunks.stdout
    assert hashlib.md5(pattern(3_000_000)).hexdigest().encode() in by_length.stdout
    assert curl("--head", f"{flask.url}/download").stdout.startswith(b"HTTP/1.1 200 OK\r\n")


def test_flask_with_many_sessions(flask: Server) -> None:
    def work(number: int) -> int:
        with requests.Session() as session:
            session.trust_env = False
            return sum(session.post(f"{flask.url}/json", json={"numbers": [number, n]}).json()["sum"] for n in range(20))

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(work, range(8))) == [20 * number + 190 for number in range(8)]


# django_site


@pytest.fixture(scope="module")
def django_env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A migrated database of this module's own, with an administrator."""
    env = {
        "NOTES_DATABASE": str(tmp_path_factory.mktemp("django") / "notes.sqlite3"),
        "DJANGO_SUPERUSER_PASSWORD": "for the test",
    }
    create_administrator = ["createsuperuser", "--no-input", "--username", "admin", "--email", "admin@example.test"]
    for command in (["migrate", "--verbosity", "0"], create_administrator):
        subprocess.run(
            [sys.executable, "manage.py", *command], cwd=EXAMPLES / "django_site", env=environment(env), check=True, timeout=120
        )
    return env


@pytest.fixture(scope="module")
def django(django_env: dict[str, str]) -> Iterator[Server]:
    """Started in the project's directory, without naming the application."""
    with Server(None, "--workers", "2", cwd=EXAMPLES / "django_site", env=django_env, warnings="default") as server:
        yield server


def csrf_token(page: str) -> str:
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
    assert found is not None, page
    return found[1]


def test_django_notes(django: Server, session: requests.Session) -> None:
    token = csrf_token(session.get(f"{django.url}/").text)
    texts = [f"note <{number}> ä" for number in range(20)]
    for text in texts:
        response = session.post(f"{django.url}/add", {"csrfmiddlewaretoken": token, "text": text})
        assert (response.status_code, response.history[0].status_code) == (200, 302)
        assert text.replace("<", "&lt;").replace(">", "&gt;") in response.text
    assert set(texts) <= set(session.get(f"{django.url}/export").text.splitlines())


def test_django_refuses_what_it_should(django: Server, session: requests.Session) -> None:
    assert session.post(f"{django.url}/add", {"text": "without a token"}).status_code == 403
    token = csrf_token(session.get(f"{django.url}/").text)
    assert session.post(f"{django.url}/add", {"csrfmiddlewaretoken": token, "text": ""}).status_code == 422
    assert session.get(f"{django.url}/add").status_code == 405


def test_django_admin(django: Server, session: requests.Session) -> None:
    login = session.get(f"{django.url}/admin/", allow_redirects=True)
    fields = {"csrfmiddlewaretoken": csrf_token(login.text), "username": "admin", "password": "for the test"}
    assert "Site administration" in session.post(login.url, fields).text
    form = session.get(f"{django.url}/admin/notes/note/add/")
    added = session.post(form.url, {"csrfmiddlewaretoken": csrf_token(form.text), "text": "by the administrator"})
    assert "was added successfully" in added.text


def test_django_by_its_wsgi_module_preloaded(django_env: dict[str, str], session: requests.Session) -> None:
    site = EXAMPLES / "django_site"
    with Server("django_site.wsgi", "--preload-app", cwd=site, env=django_env, warnings="default") as server:
        assert session.get(f"{server.url}/").status_code == 200


# embed_run.py, embed_serve.py


@pytest.mark.parametrize(
    ("script", "body", "signum"),
    [
        ("embed_run.py", r"You asked for /x\n", signal.SIGQUIT),
        ("embed_run.py", r"You asked for /x\n", signal.SIGTERM),
        ("embed_serve.py", r"\d+ ticks so far\n", signal.SIGTERM),
        ("embed_serve.py", r"\d+ ticks so far\n", signal.SIGINT),
    ],
)
def test_embedding(session: requests.Session, script: str, body: str, signum: signal.Signals) -> None:
    process = Process([sys.executable, "-W", "error", str(EXAMPLES / script), "127.0.0.1:0"])
    try:
        url = process.wait_for(r"ready: .* on (http://127\.0\.0\.1:\d+)", 30)[1]
        assert re.fullmatch(body, session.get(f"{url}/x").text)
        assert process.stop(signum) == 0, process.log
    finally:
        process.kill()
