"""Look-alikes of gunicorn's objects that hooks receive: the server (arbiter), a worker, a request and a response.

They have the attributes that hooks of public configuration files use, and may be given others. Attributes that
hooks of the server add to it are copied to later hook processes and workers (`server_attributes`).
"""

from __future__ import annotations

import functools
import os
import sys
import time

from starman import hooks
from starman.gunicorn.stand_in_logger import Logger

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starman.gunicorn.workers.config import Config

    Environ = dict[str, Any]

# The text that gunicorn has in place of a process id in pre_fork.
BOOTING = "[booting]"


class _StandIn:
    """Base of the look-alikes. An attribute that starman does not have is an error that says so."""

    _name = ""

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"starman's stand-in for gunicorn's {self._name} has no attribute {name!r}")


class Server(_StandIn):
    """Stands in for gunicorn's arbiter. pid: the master's. WORKERS and LISTENERS are empty: the master, which has
    both, runs no hooks."""

    _name = "server (Arbiter)"

    def __init__(self, cfg: Config, log: Logger) -> None:
        self.cfg = cfg
        self.log = log
        self.app = App(cfg)
        self.pid = os.getppid()
        self.master_pid = self.reexec_pid = 0  # as in a server that was not upgraded
        self.address: list[object] = cfg.address
        self.WORKERS: dict[int, Worker] = {}  # gunicorn's name
        self.LISTENERS: list[object] = []
        self.num_workers = int(cfg.__dict__["workers"])
        self.worker_age = hooks.worker_number() or 0
        self.worker_class = cfg.__dict__["worker_class"]
        self.timeout = cfg.__dict__["timeout"]
        self.proc_name = cfg.proc_name
        self.master_name = "Master"
        self.systemd = "LISTEN_FDS" in os.environ
        self.pidfile = None
        self._names = frozenset(self.__dict__)

    def own_attributes(self) -> dict[str, Any]:
        """The attributes that hooks have added."""
        return {name: value for name, value in self.__dict__.items() if name not in self._names and name != "_names"}


class Worker(_StandIn):
    """Stands in for a worker of gunicorn. pid: BOOTING before the fork, that is, in pre_fork. age: the number of the
    worker, from 1, which its successor has too. nr: the requests that hooks have seen. wsgi: the application, once it
    is loaded. booted: whether it was loaded. aborted: whether worker_abort runs."""

    _name = "worker"

    def __init__(self, server: Server, pid: int | str, age: int) -> None:
        self.server = server
        self.cfg = server.cfg
        self.log = server.log
        self.pid = pid
        self.ppid = server.pid
        self.age = age
        self.nr = 0
        self.alive = True
        self.booted = self.aborted = False
        self.timeout = server.timeout / 2
        self.max_requests = server.cfg.__dict__["max_requests"] or sys.maxsize
        self.sockets = server.LISTENERS
        self.reloader = None
        self.tmp = _Heartbeat()
        self.app = App(server.cfg)

    @property
    def wsgi(self) -> object:
        """The application."""
        return self.app.callable

    def notify(self) -> None:
        """Tell gunicorn's master that the worker is alive. Does nothing: starman's event loop does so by itself."""

    def __str__(self) -> str:
        return f"<Worker {self.pid}>"


class _Heartbeat:
    """Stands in for `worker.tmp`, the file by which gunicorn's master sees that a worker is alive."""

    def notify(self) -> None:
        """Does nothing: starman's event loop shows by itself that it is alive."""

    def last_update(self) -> float:
        """Now."""
        return time.monotonic()


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


class Request(_StandIn):
    """Stands in for a request of gunicorn, made from an environ."""

    _name = "request"

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


class Response(_StandIn):
    """Stands in for a response of gunicorn. response_length: the number in its Content-Length; None: it has none.
    sent: the bytes of the body so far. chunked: whether it has neither a length nor an end without one. upgrade:
    whether the connection becomes a WebSocket."""

    _name = "response"

    def __init__(self, request: Request, cfg: Config) -> None:
        self.req = request
        self.cfg = cfg
        self.version = "starman"
        self.status: str | None = None
        self.status_code: int | None = None
        self.headers: list[tuple[str, str]] = []
        self.headers_sent = False
        self.response_length: int | None = None
        self.sent = 0
        self.chunked = False
        self.must_close = False
        self.upgrade = False

    def start(self, status: str, headers: list[tuple[str, str]]) -> None:
        """The application has called start_response."""
        self.status = status
        code = self.status_code = int(status[:3]) if status[:3].isdigit() else None
        self.headers = list(headers)
        fields = {name.lower(): value.strip() for name, value in headers}
        length = fields.get("content-length", "")
        empty = code is not None and (code < 200 or code in (204, 304))
        self.response_length = int(length) if length.isdigit() and code != 204 else None
        self.upgrade = fields.get("connection", "").lower() == "upgrade"
        self.chunked = self.response_length is None and self.req.version > (1, 0) and self.req.method != "HEAD" and not empty

    def finish(self) -> None:
        """The response is sent, as far as it was started."""
        self.headers_sent = self.status is not None
