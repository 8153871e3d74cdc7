"""Mounts an application under a path (`--path`). WSGI middleware, independent of the server."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

NOT_FOUND = b"Not Found\n"


def mount(application: WSGIApplication, prefix: str) -> WSGIApplication:
    """`application` under `prefix`: "/shop", without a slash at its end; "" gives the application itself.

    A request for the prefix, or for something below it, reaches the application with the prefix moved from PATH_INFO
    to the end of SCRIPT_NAME (PEP 3333, "environ Variables"). Any other is answered with 404, unless a trusted proxy
    has stated the same SCRIPT_NAME: then the prefix was removed from the path before. Any thread may call the result.
    """
    return Mount(application, prefix) if prefix else application


class Mount:
    """Serves an application under a prefix; see `mount`."""

    __slots__ = ("application", "prefix")

    def __init__(self, application: WSGIApplication, prefix: str) -> None:
        self.application = application
        # The strings of an environ are bytes decoded as latin-1 (PEP 3333, "Unicode Issues"). So the prefix is
        # encoded as UTF-8, and decoded as latin-1 as well.
        self.prefix = prefix.encode("utf-8", "surrogateescape").decode("latin-1")

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        rest = path.removeprefix(self.prefix)
        if not path.startswith(self.prefix) or (rest and not rest.startswith("/")):
            if environ.get("SCRIPT_NAME") == self.prefix:
                return self.application(environ, start_response)
            start_response("404 Not Found", [("Content-Type", "text/plain"), ("Content-Length", str(len(NOT_FOUND)))])
            return [NOT_FOUND]
        environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + self.prefix
        environ["PATH_INFO"] = rest
        return self.application(environ, start_response)
