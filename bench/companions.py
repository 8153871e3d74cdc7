"""Opens connections beside a load, in a process of its own: `python -m bench.companions KIND COUNT PORT`, until
standard input ends.

`idle`: each connection makes one request and stays open. `slow`: each requests `/large` and reads 512 bytes ten
times a second, through a small receive buffer. When all are open, their number is printed, or why they could not be
opened.
"""

from __future__ import annotations

import select
import socket
import sys
import time

REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: bench\r\n\r\n"
# For all of them together.
OPEN_SECONDS = 30.0
ANSWER_SECONDS = 10.0
PAUSE_SECONDS = 0.1
READ_BYTES = 512
RECEIVE_BUFFER = 4096


def main() -> int:
    """Open the connections, print their number, and hold them."""
    kind, count, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    try:
        clients = OPENERS[kind](count, port)
    except OSError as error:
        print(f"{kind} connections: {error}", flush=True)
        return 1
    print(len(clients), flush=True)
    if kind == "slow":
        _read_slowly(clients, port)
    else:
        sys.stdin.read()
    return 0


def open_idle(count: int, port: int) -> list[socket.socket]:
    """Open connections, with one response on each. Raises OSError if one is closed or gets no response."""
    clients: list[socket.socket] = []
    deadline = time.monotonic() + OPEN_SECONDS
    while len(clients) < count:
        client = socket.create_connection(("127.0.0.1", port), ANSWER_SECONDS)
        client.sendall(REQUEST)
        if not client.recv(4096).startswith(b"HTTP/1.1 200 "):
            raise OSError(f"number {len(clients) + 1} was not answered with 200")
        clients.append(client)
        if len(clients) == 1:
            time.sleep(PAUSE_SECONDS)
            if _is_closed(client):
                raise OSError("the server keeps no connection")
        if time.monotonic() > deadline:
            raise OSError(f"only {len(clients)} of {count} in {OPEN_SECONDS:.0f} s")
    closed = sum(_is_closed(client) for client in clients)
    if closed:
        raise OSError(f"the server has closed {closed} of {count}")
    return clients


def open_slow(count: int, port: int) -> list[socket.socket]:
    """Open connections with a request for a large response on each. Raises OSError if one cannot be opened."""
    return [_open_slow(port) for _ in range(count)]


OPENERS = {"idle": open_idle, "slow": open_slow}


def _open_slow(port: int) -> socket.socket:
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    client.settimeout(ANSWER_SECONDS)
    client.connect(("127.0.0.1", port))
    client.sendall(LARGE)
    client.setblocking(False)
    return client


def _read_slowly(clients: list[socket.socket], port: int) -> None:
    """Read until standard input ends. A connection that is closed is opened again."""
    while not select.select([sys.stdin], [], [], PAUSE_SECONDS)[0]:
        for number, client in enumerate(clients):
            try:
                if client.recv(READ_BYTES):
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            client.close()
            clients[number] = _open_slow(port)


def _is_closed(client: socket.socket) -> bool:
    """Whether the connection has ended. Data is not an end: a response may come in two parts."""
    client.setblocking(False)
    try:
        while client.recv(4096):
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


if __name__ == "__main__":
    sys.exit(main())
