"""`python -m bench.idle [CONNECTIONS]`: what an idle keep-alive connection costs a worker, in private memory. Linux only.

One worker, so that it is the one that is looked at. Each connection makes one request, then idles for longer than the worker
keeps its second descriptor. The default of 10,000 connections needs a limit of descriptors (`ulimit -Hn`) a little above it.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from bench.servers import STARMAN, Start

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
IDLE_SECONDS = 3.0
ROUNDS = 3


def main() -> int:
    """Print the figure of each round, after a first one that is not counted: what it grows is there for all that follow."""
    connections = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = Start("bench.applications:hello", port, workers=1, threads=4)
    process = subprocess.Popen(STARMAN.command(start), stderr=subprocess.DEVNULL)
    try:
        _wait_for(port)
        worker = _worker_of(process.pid)
        before = _private_bytes(worker)
        for number in range(1, ROUNDS + 1):
            clients = [_connect(port) for _ in range(connections)]
            time.sleep(IDLE_SECONDS)
            each = (_private_bytes(worker) - before) / connections
            print(f"round {number}: {connections} idle connections, {each:.0f} bytes each")
            for client in clients:
                client.close()
            time.sleep(IDLE_SECONDS)
            print(f"round {number}: none any more, {(_private_bytes(worker) - before) / 1e6:.1f} MB above the beginning")
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait(30)
    return 0


def _connect(port: int) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), 10)
    client.sendall(REQUEST)
    assert client.recv(4096).startswith(b"HTTP/1.1 200 ")
    return client


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            _connect(port).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _worker_of(master: int) -> int:
    """The child of the master with threads: the mold has none."""
    children = [int(name) for name in os.listdir("/proc") if name.isdigit() and _parent_of(name) == master]
    return max(children, key=lambda pid: len(os.listdir(f"/proc/{pid}/task")))


def _parent_of(pid: str) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


def _private_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:")))


if __name__ == "__main__":
    sys.exit(main())
