"""Further modules of the stand-in for gunicorn: names that applications and configurations import for annotations, as
bases and in `except`; and the finder by which an application imports the stand-in where gunicorn is not installed.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

# The names of classes in each module. Those of gunicorn.http.errors are exceptions.
CLASSES = {
    "gunicorn.http": "Message Request RequestParser",
    "gunicorn.http.body": "Body ChunkedReader EOFReader LengthReader",
    "gunicorn.http.message": "Message Request",
    "gunicorn.http.parser": "Parser RequestParser",
    "gunicorn.http.unreader": "IterUnreader SocketUnreader Unreader",
    "gunicorn.http.wsgi": "FileWrapper WSGIErrorsWrapper",
    "gunicorn.pidfile": "Pidfile",
    "gunicorn.reloader": "Reloader ReloaderBase",
    "gunicorn.sock": "BaseSocket TCP6Socket TCPSocket UnixSocket",
    "gunicorn.workers.base_async": "AsyncWorker",
    "gunicorn.workers.workertmp": "WorkerTmp",
}
ERRORS = (
    "ChunkMissingTerminator ConfigurationProblem ExpectationFailed ForbiddenProxyRequest InvalidChunkExtension "
    "InvalidChunkSize InvalidHTTPVersion InvalidHeader InvalidHeaderName InvalidProxyHeader InvalidProxyLine "
    "InvalidRequestLine InvalidRequestMethod InvalidSchemeHeaders LimitRequestHeaders LimitRequestLine "
    "ObsoleteFolding UnsupportedTransferCoding"
)
# Modules that can be imported, with nothing in them.
EMPTY = "gunicorn.app.pasterapp gunicorn.debug gunicorn.systemd gunicorn.asgi gunicorn.ctl gunicorn.dirty gunicorn.uwsgi"
# Shown by Python in the error about a name that a module does not have.
FILE = "starman's stand-in for gunicorn: see docs/coming-from-gunicorn.md"


def further_modules() -> dict[str, dict[str, object]]:
    """The names in each module, parents first."""
    modules: dict[str, dict[str, object]] = {name: {} for name in EMPTY.split()}
    for module, names in CLASSES.items():
        modules[module] = {name: type(name, (), {"__module__": module}) for name in names.split()}
    parse_error = type("ParseException", (Exception,), {"__module__": "gunicorn.http.errors"})
    errors: dict[str, object] = {"ParseException": parse_error, "NoMoreData": type("NoMoreData", (OSError,), {})}
    errors.update((name, type(name, (parse_error,), {"__module__": "gunicorn.http.errors"})) for name in ERRORS.split())
    modules["gunicorn.http.errors"] = errors
    modules["gunicorn.util"] = {"getcwd": os.getcwd, "import_app": import_app}
    return modules


def import_app(name: str) -> object:
    """The object that "module:name" names, by default `application`, as `gunicorn.util.import_app` finds it."""
    module, _, found = name.partition(":")
    return getattr(importlib.import_module(module), found or "application")


class StandInFinder:
    """Finds the stand-in for `import gunicorn`, after all other finders: an installed gunicorn is used instead."""

    def __init__(self, install: Callable[[], None]) -> None:
        """`install` puts the stand-in into sys.modules."""
        self._install = install

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: object = None) -> ModuleSpec | None:
        """The spec of the stand-in, for the name gunicorn. Its modules are then in sys.modules."""
        if name != "gunicorn":
            return None
        loader: Any = _Loader(self._install)  # mypy wants load_module, which 3.15 has not
        return importlib.util.spec_from_loader(name, loader, origin=FILE)


class _Loader(importlib.abc.Loader):
    def __init__(self, install: Callable[[], None]) -> None:
        self._install = install

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        self._install()
        return sys.modules[spec.name]

    def exec_module(self, module: ModuleType) -> None:
        """The module has its names already."""


def offer_stand_in(install: Callable[[], None]) -> None:
    """Let the application of this process import the stand-in, which `install` puts into sys.modules, if gunicorn is
    not installed. May be called again."""
    if not any(isinstance(finder, StandInFinder) for finder in sys.meta_path):
        sys.meta_path.append(StandInFinder(install))
