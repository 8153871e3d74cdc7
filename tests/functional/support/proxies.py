"""Starts a real nginx or HAProxy in front of a server."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.functional.support.harness import Process, Server, free_ports, wait_until
from tests.functional.support.tools import find_tool
from tests.functional.support.wire import Client

NGINX = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
http {{
    access_log off;
    client_max_body_size 0;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream starman {{ server {upstream}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_request_buffering {buffering};
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $remote_addr;
        location / {{ proxy_pass http://starman; }}
        # With a path in proxy_pass, nginx decodes the request's path, and encodes only some of it again.
        location /decoded/ {{ proxy_pass http://starman/; }}
    }}
}}
"""

HAPROXY = """
global
    maxconn 256
defaults
    mode http
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    retries 0
    http-reuse always
frontend clients
    bind 127.0.0.1:{port}
    default_backend starman
backend starman
    server one {upstream} maxconn 64
"""


def start_nginx(server: Server, directory: Path, port: int, buffering: str = "on") -> Process:
    upstream = f"unix:{server.address}" if isinstance(server.address, str) else f"127.0.0.1:{server.port}"
    text = NGINX.format(directory=directory, upstream=upstream, port=port, buffering=buffering)
    if os.geteuid() == 0:
        text = f"user root;{text}"  # its temporary files are in a directory of the user that runs the tests
    path = directory / "nginx.conf"
    path.write_text(text)
    return Process([find_tool("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(path)], env={"NGINX": None})


def start_unbuffered_nginx(server: Server, directory: Path, port: int) -> Process:
    """An nginx that passes request bodies on as they arrive, chunked ones as chunked."""
    return start_nginx(server, directory, port, buffering="off")


def start_haproxy(server: Server, directory: Path, port: int) -> Process:
    upstream = f"unix@{server.address}" if isinstance(server.address, str) else f"127.0.0.1:{server.port}"
    path = directory / "haproxy.cfg"
    path.write_text(HAPROXY.format(upstream=upstream, port=port))
    return Process([find_tool("haproxy"), "-db", "-f", str(path)])


def answers(port: int) -> bool:
    try:
        with Client(("127.0.0.1", port), 5.0) as client:
            return client.get("/hello").status == 200
    except OSError:
        return False


PROXIES: dict[str, Callable[[Server, Path, int], Process]] = {
    "nginx": start_nginx,
    "nginx-unbuffered": start_unbuffered_nginx,
    "haproxy": start_haproxy,
}


@contextlib.contextmanager
def proxied(name: str, server: Server, directory: Path) -> Iterator[int]:
    """The port of a proxy in front of `server`. Fails the test if the proxy logs errors."""
    port = free_ports()[0]
    process = PROXIES[name](server, directory, port)
    try:
        started = wait_until(lambda: process.status is not None or answers(port), 15)
        assert started, process.log
        assert process.status is None, process.log
        yield port
        for word in ("[error]", "[crit]", "[alert]", "is DOWN"):
            assert word not in process.log, process.log
    finally:
        process.kill()
