"""Flask and Django as applications behind a proxy: each returns what it believes of the client.

The first segment of the path names the application. `proxyfix` is Flask with werkzeug's ProxyFix, and `django` has
SECURE_PROXY_SSL_HEADER, as where the server itself believes no proxy.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import flask
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, JsonResponse
from django.urls import re_path
from werkzeug.middleware.proxy_fix import ProxyFix

from tests.functional.support.applications import event

Environ = dict[str, Any]
Application = Callable[[Environ, Callable[..., object]], Iterable[bytes]]

flask_application = flask.Flask(__name__)
fixed_application = flask.Flask(__name__)
fixed_application.wsgi_app = ProxyFix(fixed_application.wsgi_app, x_for=1, x_proto=1)  # type: ignore[method-assign]


def flask_view(path: str) -> dict[str, object]:
    """Return what Flask believes."""
    request = flask.request
    return {
        "url": flask.url_for("flask_view", path="x", _external=True), "address": request.remote_addr,
        "secure": request.is_secure, "path": path, "root": request.script_root,
    }  # fmt: skip


for flask_app in (flask_application, fixed_application):
    flask_app.add_url_rule("/<path:path>", "flask_view", flask_view, methods=["GET", "POST"])


def django_view(request: HttpRequest, path: str) -> JsonResponse:
    """Return what Django believes."""
    return JsonResponse({
        "url": request.build_absolute_uri("/x"), "address": request.META["REMOTE_ADDR"], "secure": request.is_secure(),
        "path": path, "root": request.META["SCRIPT_NAME"],
    })  # fmt: skip


urlpatterns = [re_path("^(?P<path>.*)$", django_view)]
settings.configure(
    ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="none", MIDDLEWARE=[], ALLOWED_URL_SCHEMES=["http"],
    SECURE_PROXY_SSL_HEADER=("HTTP_X_FORWARDED_PROTO", "https"),
)  # fmt: skip


def plain(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Return the environ itself."""
    start_response("200 OK", [("Content-Type", "application/json")])
    return [json.dumps({name: value for name, value in environ.items() if isinstance(value, str)}).encode()]


def hello(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer the question whether the proxy serves."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello\n"]


def slow(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Occupy the thread for as many seconds as the query says, and note the call."""
    event(f"called {environ['PATH_INFO']}")
    time.sleep(float(environ["QUERY_STRING"] or "0"))
    return hello(environ, start_response)


APPLICATIONS: dict[str, Application] = {
    "plain": plain, "flask": flask_application, "proxyfix": fixed_application, "django": get_wsgi_application(),
    "hello": hello, "slow": slow,
}  # fmt: skip


def app(environ: Environ, start_response: Callable[..., object]) -> Iterable[bytes]:
    """Call the application that the first segment of the path names."""
    return APPLICATIONS[environ["PATH_INFO"].split("/")[1]](environ, start_response)
