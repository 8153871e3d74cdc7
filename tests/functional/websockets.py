"""Applications that leave HTTP: flask-sock's echo, and one that talks on the raw socket."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_sock import Sock

app = Flask(__name__)
sock = Sock(app)


@app.get("/")
def index() -> str:
    return "a page"


@sock.route("/echo")
def echo(ws: Any) -> None:
    while (message := ws.receive()) != "end":
        ws.send(message)


@sock.route("/broken")
def broken(ws: Any) -> None:
    raise ValueError("the handler is broken")


def raw(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Answers each line in upper case on the connection itself, until an empty one. `/ignored` leaves the socket alone."""
    offered = environ.get("gunicorn.socket")
    if offered is None or environ["PATH_INFO"] == "/ignored":
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"offered" if offered is not None else b"not offered"]
    offered.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: upper\r\n\r\n")
    lines = b""
    while not lines.endswith(b"\n\n"):
        received = offered.recv(3)
        if not received:
            break
        lines += received
        offered.sendall(received.upper())
    return []
