"""Look-alikes of gunicorn's objects that hooks receive: the server (arbiter), a worker, a request and a response.

They have the attributes that hooks of public configuration files use, and may be given others. An attribute that a
hook sets on the server is seen by later hooks of the same process only.
"""

from __future__ import annotations

import functools
import os

from starman import hooks
from starman.gunicorn.bind import parse_bind
from starman.gunicorn.stand_in_logger import Logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starman.gunicorn.configuration import Resolved

    Environ = dict[str, Any]


class Config:
    """The settings of gunicorn, as attributes (`cfg.workers`, `cfg.bind`)."""

    def __init__(self, resolved: Resolved) -> None:
        self.__dict__.update((name, value.value) for name, value in resolved.values.items())
        self.address = [_address(bind) for bind in self.__dict__["bind"]]
        self.is_ssl = self.__dict__["certfile"] or self.__dict__["keyfile"]
        self.env = dict(text.split("=", 1) for text in self.__dict__["raw_env"] if "=" in text)
        self.uid, self.gid = os.geteuid(), os.getegid()


def _address(bind: str) -> object:
    """The address as gunicorn's sockets have it: (host, port), a path, or the number of a descriptor."""
    host, port = parse_bind(bind)
    if port:
        return host, int(port)
    return int(host.removeprefix("fd://")) if host.startswith("fd://") else host.removeprefix("unix:")


class Server:
    """Stands in for gunicorn's arbiter. pid: the master's. WORKERS: the workers that this process has heard of."""

    def __init__(self, cfg: Config, log: Logger) -> None:
        self.cfg = cfg
        self.log = log
        self.pid = self.master_pid = os.getppid()
        self.address = getattr(cfg, "address", [])
        self.WORKERS: dict[int, Worker] = {}  # gunicorn's name
        self.LISTENERS: list[object] = []
        self.num_workers = int(getattr(cfg, "workers", 1))
        self.worker_age = hooks.worker_number() or 0
        self.timeout = getattr(cfg, "timeout", 30)
        self.proc_name = getattr(cfg, "proc_name", None)
        self.master_name = "Master"


class Worker:
    """Stands in for a worker of gunicorn. age: the number of the worker, from 1, which its successor has too. nr: the
    requests that hooks have seen. wsgi: the application, once it is loaded."""

    def __init__(self, server: Server, pid: int, age: int) -> None:
        self.server = server
        self.cfg = server.cfg
        self.log = server.log
        self.pid = pid
        self.ppid = server.pid
        self.age = age
        self.nr = 0
        self.alive = self.booted = True
        self.aborted = False
        self.timeout = server.timeout
        self.sockets = server.LISTENERS
        self.app = App(server.cfg)

    @property
    def wsgi(self) -> object:
        """The application."""
        return self.app.callable

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"


class App:
    """Stands in for gunicorn's application object. callable: the application of the project; None before it is
    loaded."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg
        self.callable: object = None

    def wsgi(self) -> object:
        """The application."""
        return self.callable


# The fields that an environ has without HTTP_ before their names.
_PLAIN = ("CONTENT-TYPE", "CONTENT-LENGTH")


class Request:
    """Stands in for a request of gunicorn, made from an environ."""

    def __init__(self, environ: Environ) -> None:
        self._environ = environ
        self.method: str = environ["REQUEST_METHOD"]
        self.uri: str = environ.get("RAW_URI", "")
        self.path, _, query = self.uri.partition("?")
        self.query = query.partition("#")[0]
        self.fragment = ""
        self.scheme: str = environ["wsgi.url_scheme"]
        version = environ.get("SERVER_PROTOCOL", "HTTP/1.1").removeprefix("HTTP/").split(".")
        self.version = tuple(int(part) for part in version if part.isdigit())
        self.remote_addr = self.peer_addr = (environ.get("REMOTE_ADDR", ""), int(environ.get("REMOTE_PORT") or 0))

    @functools.cached_property
    def headers(self) -> list[tuple[str, str]]:
        """The fields of the request: names in upper case, with hyphens. A hook may change the list."""
        found = [(name[5:].replace("_", "-"), value) for name, value in self._environ.items() if name.startswith("HTTP_")]
        plain = ((name, self._environ.get(name.replace("-", "_"))) for name in _PLAIN)
        return [*found, *((name, value) for name, value in plain if value)]

    def apply(self, environ: Environ) -> None:
        """Take over into `environ` what pre_request has changed in the scheme and the fields, because gunicorn makes
        the environ of the application after that hook."""
        environ["wsgi.url_scheme"] = self.scheme
        changed = self.__dict__.pop("headers", None)
        if changed is None or changed == self.headers:
            return
        for name in [name for name in environ if name.startswith("HTTP_")]:
            del environ[name]
        for name, value in changed:
            key = name if name in _PLAIN else f"HTTP_{name}"
            key = key.replace("-", "_")
            environ[key] = f"{environ[key]},{value}" if key in environ and name not in _PLAIN else value
        self.__dict__["headers"] = changed


class Response:
    """Stands in for a response of gunicorn. sent: the bytes of the body so far."""

    def __init__(self, request: Request) -> None:
        self.req = request
        self.version = "starman"
        self.status: str | None = None
        self.status_code: int | None = None
        self.headers: list[tuple[str, str]] = []
        self.sent = 0
        self.chunked = False
        self.must_close = False

    def start(self, status: str, headers: list[tuple[str, str]]) -> None:
        """The application has called start_response."""
        self.status = status
        self.status_code = int(status[:3]) if status[:3].isdigit() else None
        self.headers = list(headers)
