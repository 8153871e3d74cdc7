"""The application of a worker without threads: the paths of `applications`, the Flask and the Django example, and
more."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask_app
from django.core.management import call_command
from django_site.wsgi import application as django_application
from flask import Response, request, stream_with_context

from tests.functional.support.applications import FUNCTIONS, TEXT, Body, Environ, StartResponse
from tests.functional.support.applications import app as functions

call_command("migrate", verbosity=0)

flask_application = flask_app.app


@flask_application.get("/context/<int:count>")
def context(count: int) -> Response:
    """A stream that reads its request in each block."""
    return Response(stream_with_context(request.args["line"] + "\n" for _ in range(count)), mimetype="text/plain")


def app(environ: Environ, start_response: StartResponse) -> Body:
    """Pass /flask/PATH and /django/PATH to the examples, mounted there."""
    name, slash, rest = environ["PATH_INFO"][1:].partition("/")
    framework: Callable[..., Any] | None = {"flask": flask_application, "django": django_application}.get(name)
    if framework is None:
        return functions(environ, start_response)
    environ["SCRIPT_NAME"], environ["PATH_INFO"] = f"/{name}", slash + rest
    return framework(environ, start_response)  # type: ignore[no-any-return]


def threads(environ: Environ, start_response: StartResponse) -> Body:
    """The threads of this process, and whether the application runs in the main one."""
    start_response("200 OK", [("Content-Type", "application/json")])
    names = sorted(thread.name for thread in threading.enumerate())
    return [json.dumps([names, threading.current_thread() is threading.main_thread()]).encode()]


def spin(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Yield empty blocks without a pause until there is the file that the query names."""
    start_response("200 OK", [TEXT])
    until = environ["QUERY_STRING"]
    while not os.path.exists(until):
        yield b""
    yield b"ended"


FUNCTIONS.update({"threads": threads, "spin": spin})
