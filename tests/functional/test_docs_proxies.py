"""The configurations of proxies on the pages of docs work as they are printed, with the command beside them."""

from __future__ import annotations

import grp
import os
import re
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.harness import REPOSITORY, Process, Server, free_ports, wait_until
from tests.functional.support.tools import find_tool, need_root
from tests.functional.support.wire import Client

APPLICATION = """\
def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{environ['REMOTE_ADDR']} {environ['wsgi.url_scheme']}".encode()]
"""
# The user that proxies run as on Debian.
GROUP = "www-data"
NGINX = """
user www-data;
daemon off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ }}
http {{
access_log off;
{paths}
{snippet}
}}
"""
APACHE = """
ServerRoot {directory}
ServerName localhost
PidFile {directory}/apache.pid
ErrorLog /dev/stderr
User www-data
Group www-data
{modules}
Listen 127.0.0.1:{port}
{snippet}
"""
HAPROXY = """
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
frontend clients
    bind 127.0.0.1:{port}
    default_backend shop
{snippet}
"""
# The client connects from 127.0.0.1, which is trusted itself, so the address that it states counts. The scheme is the
# proxy's.
FIELDS = [("X-Forwarded-For", "192.0.2.66"), ("X-Forwarded-Proto", "https")]
EXPECTED = b"192.0.2.66 http"


def blocks(page: str, language: str) -> list[str]:
    text = (REPOSITORY / "docs" / page).read_text()
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that other users may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        (Path(name) / "application.py").write_text(APPLICATION)
        yield Path(name)


def response_through(proxy: Process, port: int) -> tuple[int, bytes]:
    """Status and body of a request with FIELDS, once the proxy listens."""

    def listens() -> bool:
        try:
            Client(("127.0.0.1", port), 5.0).close()
        except OSError:
            return proxy.status is not None
        return True

    assert wait_until(listens, 15)
    assert proxy.status is None, proxy.log
    with Client(("127.0.0.1", port), 20.0) as client:
        response = client.get("/", *FIELDS)
        return response.status, response.body


def options_of_command(page: str) -> list[str]:
    """The options of the page's command for a UNIX socket behind a proxy, without --listen."""
    lines = [line for block in blocks(page, "sh") for line in block.splitlines() if re.search(r"--listen \S+/shop\.sock", line)]
    assert len(lines) == 1, lines
    words = shlex.split(lines[0])
    return words[words.index("--listen") + 2 : -1]


def start_proxy(kind: str, page: str, directory: Path, port: int) -> Process:
    snippet = next(block for block in blocks(page, kind) if "shop.sock" in block)
    snippet = re.sub(r"/run/(?:starman/)?shop\.sock", f"{directory}/shop.sock", snippet)
    if kind == "nginx":
        snippet = re.sub(r"^ *listen 80;\n", "", snippet, flags=re.MULTILINE)
        snippet = snippet.replace("\nserver {\n", f"\nserver {{\n    listen 127.0.0.1:{port};\n")
        names = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        paths = "\n".join(f"{name}_temp_path {directory}/{name};" for name in names)
        (directory / "nginx.conf").write_text(NGINX.format(directory=directory, paths=paths, snippet=snippet))
        command = [find_tool("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(directory / "nginx.conf")]
        return Process(command, env={"NGINX": None})
    names = ("mpm_event", "authz_core", "proxy", "proxy_http", "headers")
    modules = "\n".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so" for name in names)
    (directory / "apache.conf").write_text(APACHE.format(directory=directory, modules=modules, port=port, snippet=snippet))
    return Process([find_tool("apache2"), "-D", "FOREGROUND", "-f", str(directory / "apache.conf")])


@pytest.mark.parametrize(
    ("kind", "page", "refused"),
    [
        ("nginx", "getting-started.md", 502),
        ("nginx", "behind-a-proxy.md", 502),
        ("nginx", "coming-from-uwsgi.md", 502),
        ("apache", "coming-from-mod-wsgi.md", 503),
    ],
)
def test_a_proxy_of_another_user_reaches_the_socket(kind: str, page: str, refused: int, open_directory: Path) -> None:
    need_root()
    find_tool({"nginx": "nginx", "apache": "apache2"}[kind])
    assert grp.getgrnam(GROUP).gr_gid != os.getegid()
    port = free_ports()[0]
    options = options_of_command(page)
    arguments = ("--workers", "1", "--include", str(open_directory))
    socket = f"{open_directory}/shop.sock"
    proxy = start_proxy(kind, page, open_directory, port)
    try:
        with Server("application", *arguments, *options, listen=socket):
            assert response_through(proxy, port) == (200, EXPECTED)
        # Without the options, the page is right about what goes wrong.
    finally:
        proxy.kill()
    proxy = start_proxy(kind, page, open_directory, port)
    try:
        with Server("application", *arguments, listen=socket):
            assert response_through(proxy, port)[0] == refused
    finally:
        proxy.kill()
    assert f"or it answers {refused}" in (REPOSITORY / "docs" / page).read_text()


def test_haproxy_states_client_and_scheme(open_directory: Path) -> None:
    find_tool("haproxy")
    (snippet,) = blocks("getting-started.md", "haproxy")
    port = free_ports()[0]
    with Server("application", "--workers", "1", "--include", str(open_directory)) as server:
        path = open_directory / "haproxy.cfg"
        path.write_text(HAPROXY.format(port=port, snippet=snippet.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")))
        proxy = Process([find_tool("haproxy"), "-db", "-f", str(path)])
        try:
            assert response_through(proxy, port) == (200, EXPECTED)
        finally:
            proxy.kill()
