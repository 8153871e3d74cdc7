"""Flask and Django as test applications: each returns what it has parsed of a request, and the URL that it builds
of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable
from typing import Any

import flask
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import re_path

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., object]], Iterable[bytes]]

flask_application = flask.Flask(__name__)


@flask_application.route("/large-file", methods=["GET", "HEAD"])
def large_file() -> flask.Response:
    """The file that LARGE_FILE names, with ranges."""
    return flask.send_file(os.environ["LARGE_FILE"], mimetype="application/octet-stream", conditional=True)


@flask_application.route("/", defaults={"path": ""})
@flask_application.route("/<path:path>")
def flask_view(path: str) -> dict[str, object]:
    """Return what Flask has parsed of the request; `path` is by its own routes."""
    request = flask.request
    return {"path": request.path, "route": f"/{path}", "query": dict(request.args.items(multi=False)), "host": request.host,
            "url": flask.url_for("flask_view", path="x", _external=True)}  # fmt: skip


def django_view(request: HttpRequest, path: str) -> JsonResponse:
    """Return what Django has parsed of the request."""
    query = {name: request.GET[name] for name in request.GET}
    return JsonResponse({"path": request.path, "route": f"/{path}", "query": query, "host": request.get_host(),
                         "url": request.build_absolute_uri("/x")})  # fmt: skip


urlpatterns = [re_path("^(?P<path>.*)$", django_view)]
settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="none", MIDDLEWARE=[], ALLOWED_URL_SCHEMES=["http"])
django_application: Application = get_wsgi_application()


def plain_application(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Return the environ itself, without a framework."""
    start_response("200 OK", [("Content-Type", "application/json")])
    known = {name: value for name, value in environ.items() if isinstance(value, str)}
    return [json.dumps(known).encode()]


APPLICATIONS: dict[str, Application] = {"plain": plain_application, "flask": flask_application, "django": django_application}


def app(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Pass the request to the application in APPLICATIONS that the field X-Framework names."""
    return APPLICATIONS[environ.get("HTTP_X_FRAMEWORK", "plain")](environ, start_response)
