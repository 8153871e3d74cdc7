"""The examples, each within `wsgiref.validate`, which fails if the server or the application breaks PEP 3333."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.validate import validator

import flask_app
import hello
from django_site.wsgi import application as django_application

APPLICATIONS = {
    "hello": validator(hello.app),
    "flask": validator(flask_app.app),
    "django": validator(django_application),
}


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Pass /NAME/PATH to the example of this name, mounted there."""
    found = re.fullmatch(r"/([a-z]+)(/.*)", environ["PATH_INFO"])
    assert found is not None
    environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/" + found[1], found[2]
    return APPLICATIONS[found[1]](environ, start_response)
