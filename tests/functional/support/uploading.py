"""Applications that read uploads, each within `wsgiref.validate`: plain, Flask, Django.

Each returns the length and the MD5 of the upload as JSON. They use nothing of starman.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.validate import validator

import django
import flask_app
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse
from django.urls import path

Environ = dict[str, Any]


def counted(pieces: Iterable[bytes]) -> dict[str, object]:
    """The response of all of them."""
    md5, length = hashlib.md5(), 0
    for piece in pieces:
        md5.update(piece)
        length += len(piece)
    return {"length": length, "md5": md5.hexdigest()}


def plain(environ: Environ, start_response: Callable[..., Any]) -> list[bytes]:
    """/plain/read reads large blocks, /plain/lines reads lines, /plain/nothing reads nothing."""
    file = environ["wsgi.input"]
    how: dict[str, Callable[[], Iterable[bytes]]] = {
        "/read": lambda: iter(lambda: file.read(100_000), b""),
        "/lines": lambda: file,
        "/nothing": list,
    }
    answer = json.dumps(counted(how[environ["PATH_INFO"]]())).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(answer)))])
    return [answer]


def django_upload(request: HttpRequest) -> JsonResponse:
    """The file of the form, or the body itself."""
    if "file" in request.FILES:
        upload: Any = request.FILES["file"]
        return JsonResponse(counted(upload.chunks()))
    return JsonResponse(counted(iter(lambda: request.read(100_000), b"")))


settings.configure(ALLOWED_HOSTS=["*"], ROOT_URLCONF=__name__, MIDDLEWARE=["django.middleware.common.CommonMiddleware"])
django.setup()
urlpatterns = [path("upload", django_upload)]

APPLICATIONS = {"plain": validator(plain), "flask": validator(flask_app.app), "django": validator(WSGIHandler())}


def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Pass /NAME/PATH to the application of this name, mounted there."""
    found = re.fullmatch(r"/([a-z]+)(/.*)", environ["PATH_INFO"])
    assert found is not None
    environ["SCRIPT_NAME"], environ["PATH_INFO"] = "/" + found[1], found[2]
    return APPLICATIONS[found[1]](environ, start_response)
