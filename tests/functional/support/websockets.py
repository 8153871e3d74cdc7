"""Applications that leave HTTP: the echo of flask-sock, and applications that use the raw socket."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import pickle
import pprint
import select
import selectors
import socket
import threading
from collections.abc import Callable
from typing import Any

from flask import Flask
from flask_sock import Sock

from tests.functional.support.applications import pattern

LARGE = pattern(2_000_000)
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: upper\r\n\r\n"
MAY_RETURN = threading.Event()

app = Flask(__name__)
sock = Sock(app)


@app.get("/")
def index() -> str:
    return "a page"


@sock.route("/echo")
def echo(ws: Any) -> None:
    while (message := ws.receive()) != "end":
        ws.send(message)


@sock.route("/push")
def push(ws: Any) -> None:
    """Send LARGE and return."""
    ws.send(LARGE)


@sock.route("/broken")
def broken(ws: Any) -> None:
    raise ValueError("the handler is broken")


def raw(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answer each line in upper case on the connection itself, until an empty line. `/ignored` leaves the socket
    alone."""
    offered = environ.get("gunicorn.socket")
    if offered is None or environ["PATH_INFO"] == "/ignored":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"offered" if offered is not None else b"not offered"]
    offered.sendall(SWITCHING)
    lines = b""
    while not lines.endswith(b"\n\n"):
        received = offered.recv(3)
        if not received:
            break
        lines += received
        offered.sendall(received.upper())
    return []


def touch(offered: Any) -> str:
    """Read all attributes of the socket without using it."""
    for look in (repr, str, bool, hash, dir, id, type, pprint.pformat, vars_of, list_of_attributes):
        look(offered)
    for name in ("x", "__len__", "__html__", "__iter__", "_closed", "items", "read"):
        assert not hasattr(offered, name)
    for name in ("recv", "sendall", "fileno", "close"):
        assert callable(getattr(offered, name))
    assert copy.copy(offered) is offered
    assert copy.deepcopy({"gunicorn.socket": offered})["gunicorn.socket"] is offered
    for dumps in (json.dumps, pickle.dumps):
        with contextlib.suppress(TypeError):
            dumps(offered)
            raise AssertionError("it can be written down")
    assert offered == offered
    assert offered != 1
    assert offered.getsockname()[1] != offered.getpeername()[1]
    facts = offered.family, offered.type, offered.proto, offered.timeout, offered.gettimeout(), offered.getblocking()
    assert facts == (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, None, None, True), facts
    assert offered.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    return "looked at"


def vars_of(offered: Any) -> None:
    """Nothing: the socket has no dictionary."""
    assert not hasattr(offered, "__dict__")


def list_of_attributes(offered: Any) -> None:
    """List the attributes, as a debugger does."""
    for name in dir(offered):
        repr(getattr(offered, name))


def touched(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A normal response after a look at the socket."""
    said = touch(environ["gunicorn.socket"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [said.encode()]


def taken(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Take the connection, and return a response all the same."""
    environ["gunicorn.socket"].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"never seen"]


def waits_for_room(offered: Any) -> None:
    """Wait until select(), poll() and selectors report bytes."""
    assert select.select([offered], [], [], 10)[0]
    poll = select.poll()
    poll.register(offered, select.POLLIN)
    assert poll.poll(10_000)
    with selectors.DefaultSelector() as selector:
        selector.register(offered, selectors.EVENT_READ)
        assert selector.select(10)


def by_select(offered: Any) -> bytes:
    waits_for_room(offered)
    return os.read(offered.fileno(), 100)


def by_recvmsg(offered: Any) -> bytes:
    data: bytes = offered.recvmsg(100)[0]
    return data


def by_recvmsg_into(offered: Any) -> bytes:
    buffer = bytearray(100)
    size = offered.recvmsg_into([buffer])[0]
    return bytes(buffer[:size])


def by_recvfrom(offered: Any) -> bytes:
    data: bytes = offered.recvfrom(100)[0]
    return data


def by_file(offered: Any) -> bytes:
    with offered.makefile("rb") as file:
        line: bytes = file.readline()
        return line


def by_peek(offered: Any) -> bytes:
    peeked = offered.recv(100, socket.MSG_PEEK)
    assert offered.recv(100) == peeked
    return bytes(peeked)


def by_recv_into(offered: Any) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: offered.recv_into(buffer)])


def by_dup(offered: Any) -> bytes:
    with offered.dup() as other:
        data: bytes = other.recv(100)
        return data


WAYS: dict[str, Callable[[Any], bytes]] = {name: function for name, function in list(globals().items()) if name.startswith("by_")}


def ways(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """/NAME reads once in that way, answers in upper case, and repeats until the client's end. A body comes first."""
    offered = environ["gunicorn.socket"]
    body = environ["wsgi.input"].read()
    offered.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    assert offered.family == socket.AF_INET
    assert offered.getpeername()[1] == int(environ["REMOTE_PORT"])
    received = WAYS[environ["PATH_INFO"].removeprefix("/")](offered)
    offered.sendall(SWITCHING + body.upper() + received.upper())
    while received := offered.recv(100_000):
        offered.sendall(received.upper())
    return []


def copies(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """/dup and /detach send by another descriptor of the connection after close(); /number closes the descriptor
    itself."""
    offered = environ["gunicorn.socket"]
    if environ["PATH_INFO"] == "/dup":
        with offered.dup() as copy:
            offered.close()
            copy.sendall(SWITCHING + b"copy")
        return []
    descriptor = offered.detach() if environ["PATH_INFO"] == "/detach" else offered.fileno()
    if environ["PATH_INFO"] == "/detach":
        offered.close()
    os.write(descriptor, SWITCHING + b"copy")
    os.close(descriptor)
    return []


def keepalive(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Return whether the socket has SO_KEEPALIVE."""
    offered = environ["gunicorn.socket"]
    offered.settimeout(10)
    offered.sendall(SWITCHING + b"%d" % offered.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
    return []


def pushes(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Send LARGE and return; /some sends what the socket takes at once. /close closes the socket itself, and
    returns at a request for /return. /thread starts a thread that reads, and writes its end to a file."""
    path = environ["PATH_INFO"]
    if path == "/return":
        MAY_RETURN.set()
        start_response("200 OK", [])
        return [b"it may"]
    offered = environ["gunicorn.socket"]
    if path == "/thread":
        threading.Thread(target=read_on, args=(offered,), daemon=True).start()
    if path == "/some":
        offered.sendall(SWITCHING)
        offered.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while offered.send(LARGE):
                pass
        return []
    offered.sendall(SWITCHING + LARGE)
    if path == "/close":
        offered.close()
        MAY_RETURN.wait(60)
    return []


def read_on(offered: Any) -> None:
    """Read until the end of the stream, or of the socket."""
    with contextlib.suppress(OSError):
        while offered.recv(1000):
            pass
    with open(os.environ["TEST_EVENTS"], "a") as events:
        events.write("no more to read\n")
