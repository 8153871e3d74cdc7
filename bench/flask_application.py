"""A small Flask application for the bench: its defaults, one view."""

from __future__ import annotations

from flask import Flask, Response

application = Flask(__name__)


@application.get("/")
def hello() -> Response:
    """A constant of 14 bytes."""
    return Response("Hello, world!\n", content_type="text/plain; charset=utf-8")
