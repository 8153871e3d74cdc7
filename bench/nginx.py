"""Starts a server behind an nginx of its own: `python -m bench.nginx JSON`. Both end with this process.

JSON gives `port`, where nginx listens on 127.0.0.1; `socket`, the UNIX socket of the server; `scratch`, a directory
for nginx; `pinned`, the prefix that pins nginx to its core; and `command`, which starts the server.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

from bench.servers import Start

# One worker, connections to the server kept, and the fields that applications expect from a proxy.
CONFIGURATION = """
daemon off;
worker_processes 1;
pid {scratch}/nginx.pid;
error_log stderr error;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    keepalive_requests 1000000000;
    client_body_temp_path {scratch}/body;
    proxy_temp_path {scratch}/proxy;
    fastcgi_temp_path {scratch}/fastcgi;
    uwsgi_temp_path {scratch}/uwsgi;
    scgi_temp_path {scratch}/scgi;
    upstream application {{ server unix:{socket}; keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=2048;
        location / {{
            proxy_pass http://application;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
            proxy_set_header X-Forwarded-Proto $scheme;
        }}
    }}
}}
"""
END_SECONDS = 3.0


def in_front_of(command: Callable[[Start], list[str]], pinned: Sequence[str]) -> Callable[[Start], list[str]]:
    """The command that starts a server, given by its own `command`, behind nginx."""

    def both(start: Start) -> list[str]:
        given = {
            "port": start.port,
            "socket": start.socket,
            "scratch": start.scratch,
            "pinned": list(pinned),
            "command": command(start),
        }
        return [sys.executable, "-m", "bench.nginx", json.dumps(given)]

    return both


def main() -> int:
    """Run both until the server ends or a signal comes. The exit status: the server's, or 1 without nginx."""
    given = json.loads(sys.argv[1])
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if program is None:
        print("nginx is not installed; Debian and Homebrew have it as the package nginx", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, _end)
    text = CONFIGURATION.format(**given)
    if os.geteuid() == 0:
        text = f"user root;{text}"  # the socket is in a directory of the user that measures
    path = Path(given["scratch"], "nginx.conf")
    path.write_text(text, "utf-8")
    # nginx takes descriptors from NGINX, and would look for them.
    environment = {name: value for name, value in os.environ.items() if name != "NGINX"}
    proxy = [*given["pinned"], program, "-p", given["scratch"], "-e", "stderr", "-c", str(path)]
    children = [subprocess.Popen(given["command"]), subprocess.Popen(proxy, env=environment)]
    try:
        return children[0].wait()
    finally:
        for child in children:
            child.terminate()
        for child in children:
            child.wait(END_SECONDS)


def _end(number: int, _: FrameType | None) -> None:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
