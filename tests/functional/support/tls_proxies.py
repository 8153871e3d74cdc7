"""Starts a real nginx or HAProxy that speaks TLS to its clients, and states them in fields of the request."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.functional.support.certificates import Pair, secured, trusting
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
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    upstream starman {{ server {upstream}; keepalive 8; }}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        location / {{ proxy_pass http://starman; }}
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
    bind 127.0.0.1:{port} ssl crt {pem}
    option forwardfor
    http-request set-header X-Forwarded-Proto https
    default_backend starman
backend starman
    server one {upstream} maxconn 64
"""


def start_nginx(server: Server, directory: Path, port: int, pair: Pair) -> Process:
    upstream = f"unix:{server.address}" if isinstance(server.address, str) else f"127.0.0.1:{server.port}"
    text = NGINX.format(directory=directory, upstream=upstream, port=port, certificate=pair.certificate, key=pair.key)
    if os.geteuid() == 0:
        text = f"user root;{text}"  # its temporary files are in a directory of the user that runs the tests
    path = directory / "nginx.conf"
    path.write_text(text)
    return Process([find_tool("nginx"), "-p", str(directory), "-e", "stderr", "-c", str(path)], env={"NGINX": None})


def start_haproxy(server: Server, directory: Path, port: int, pair: Pair) -> Process:
    upstream = f"unix@{server.address}" if isinstance(server.address, str) else f"127.0.0.1:{server.port}"
    pem = directory / "both.pem"
    pem.write_text(pair.certificate.read_text() + pair.key.read_text())
    path = directory / "haproxy.cfg"
    path.write_text(HAPROXY.format(upstream=upstream, port=port, pem=pem))
    return Process([find_tool("haproxy"), "-db", "-f", str(path)])


TLS_PROXIES: dict[str, Callable[[Server, Path, int, Pair], Process]] = {"nginx": start_nginx, "haproxy": start_haproxy}


class Proxy:
    """A running proxy."""

    def __init__(self, port: int, pair: Pair) -> None:
        self.port = port
        self.pair = pair

    def client(self, source: str = "") -> Client:
        """A client that speaks TLS to the proxy, from the address `source`."""
        client = Client(("127.0.0.1", self.port), source=source)
        client.socket = secured(client.socket, trusting(self.pair))
        return client

    def serves(self) -> bool:
        """Whether the proxy and the server behind it answer."""
        try:
            with self.client() as client:
                return client.get("/hello").status == 200
        except OSError:
            return False


@contextlib.contextmanager
def tls_proxy(name: str, server: Server, directory: Path) -> Iterator[Proxy]:
    """A proxy of TLS_PROXIES in front of `server`."""
    proxy = Proxy(free_ports()[0], Pair(directory, "proxy"))
    process = TLS_PROXIES[name](server, directory, proxy.port, proxy.pair)
    try:
        assert wait_until(lambda: process.status is not None or proxy.serves(), 15), process.log
        assert process.status is None, process.log
        yield proxy
    finally:
        process.kill()
