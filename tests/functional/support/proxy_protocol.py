"""HAProxy and nginx as senders of the PROXY protocol, headers written by hand, and a client with its own address."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from pathlib import Path

import pytest

from tests.functional.support.certificates import Pair, secured, trusting
from tests.functional.support.harness import Process, Server, free_ports, wait_until
from tests.functional.support.tools import find_tool
from tests.functional.support.wire import Address, Client

# A loopback address of the client, which no other process uses.
HERE = "127.0.0.9"

HAPROXY = """
global
    maxconn 256
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    retries 0
"""
HAPROXY_PAIR = """
frontend {name}
    {mode}
    bind {bind}
    default_backend {name}
backend {name}
    {mode}
    server one {upstream} {options} check inter 200ms
"""

NGINX = """
load_module {module};
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 256; }}
stream {{
    {servers}
}}
"""
STREAM_MODULES = ("/usr/lib/nginx/modules/ngx_stream_module.so", "/usr/lib64/nginx/modules/ngx_stream_module.so")


class LocalClient(Client):
    """A client that connects from HERE. `before` is sent first, then the TLS handshake if there is a `pair`."""

    def __init__(self, address: Address, *, before: bytes = b"", pair: Pair | None = None, timeout: float = 20.0) -> None:
        super().__init__(address, timeout, source=HERE)
        with contextlib.suppress(ConnectionError):  # the server may have closed the connection of such a peer already
            self.socket.sendall(before)
        if pair is not None:
            self.socket = secured(self.socket, trusting(pair))

    @property
    def own_address(self) -> tuple[str, str]:
        """The client's address and port, as REMOTE_ADDR and REMOTE_PORT show them."""
        host, port = self.socket.getsockname()
        return host, str(port)


def version_1(host: str = "192.0.2.1", port: int = 4711) -> bytes:
    """A header of version 1."""
    family, other = ("TCP6", "2001:db8::ff") if ":" in host else ("TCP4", "192.0.2.255")
    return f"PROXY {family} {host} {other} {port} 443\r\n".encode()


def version_2(host: str = "192.0.2.1", port: int = 4711, command: int = 1) -> bytes:
    """A header of version 2; `command` 0: LOCAL."""
    kind, family = (socket.AF_INET6, 0x21) if ":" in host else (socket.AF_INET, 0x11)
    body = socket.inet_pton(kind, host) * 2 + struct.pack(">HH", port, 443)
    return bytes.fromhex("0d0a0d0a000d0a515549540a") + struct.pack(">BBH", 0x20 | command, family, len(body)) + body


def start_haproxy(pairs: dict[str, tuple[str, str, str]], directory: Path, pem: Path) -> tuple[Process, dict[str, int]]:
    """HAProxy with a frontend for each of `pairs`. Returns the frontends' ports.

    A pair is the upstream, the options of the server ("send-proxy"), and those of the frontend: "tls" if it terminates
    TLS, "http" if it speaks HTTP."""
    ports = dict(zip(pairs, free_ports(len(pairs)), strict=True))
    text = HAPROXY
    for name, (upstream, options, front) in pairs.items():
        bind = f"127.0.0.1:{ports[name]}" + (f" ssl crt {pem}" if "tls" in front else "")
        mode = "mode http" if "http" in front else "mode tcp"
        text += HAPROXY_PAIR.format(name=name, mode=mode, bind=bind, upstream=upstream.replace("unix:", "unix@"), options=options)
    path = directory / "haproxy.cfg"
    path.write_text(text)
    process = Process([find_tool("haproxy"), "-db", "-f", str(path)])
    wait_for_ports(process, ports)
    return process, ports


def start_nginx_stream(upstreams: dict[str, str], directory: Path) -> tuple[Process, dict[str, int]]:
    """nginx that passes connections on to each of `upstreams`, with a header of the PROXY protocol (version 1)."""
    ports = dict(zip(upstreams, free_ports(len(upstreams)), strict=True))
    program = find_tool("nginx")
    module = next(filter(os.path.exists, STREAM_MODULES), None)
    if module is None:
        pytest.skip("nginx's module for streams is not installed (Debian: libnginx-mod-stream)")
    servers = "\n    ".join(
        f"server {{ listen 127.0.0.1:{ports[name]}; proxy_pass {upstream}; proxy_protocol on; }}"
        for name, upstream in upstreams.items()
    )
    path = directory / "nginx-stream.conf"
    path.write_text(NGINX.format(module=module, directory=directory, servers=servers))
    process = Process([program, "-p", str(directory), "-e", "stderr", "-c", str(path)], env={"NGINX": None})
    wait_for_ports(process, ports)
    return process, ports


def wait_for_ports(process: Process, ports: dict[str, int]) -> None:
    """Wait until a proxy listens on all ports. Fails the test if it does not."""

    def listens(port: int) -> bool:
        try:
            socket.create_connection(("127.0.0.1", port), 5.0).close()
        except OSError:
            return False
        return True

    started = wait_until(lambda: process.status is not None or all(map(listens, ports.values())), 15)
    if not started or process.status is not None:
        process.kill()
        raise AssertionError(process.log)


def upstreams(server: Server) -> dict[str, str]:
    """The listeners of a server by name: "tcp" and "tls" are the first two TCP listeners, "unix" is a UNIX socket."""
    path = next((part.removeprefix("unix:") for part in server.listeners.split(", ") if part.startswith("unix:")), "")
    found = {"tcp": f"127.0.0.1:{server.ports[0]}", "tls": f"127.0.0.1:{server.ports[1]}"}
    return {**found, "unix": f"unix:{path}"} if path else found
