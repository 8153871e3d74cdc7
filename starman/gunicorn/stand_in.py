"""A stand-in for the package `gunicorn`, for configuration files that import it.

It serves what public configuration files use: SERVER_SOFTWARE, the version, `glogging.Logger`, the defaults in
`gunicorn.config`, and the classes of workers as bases. It replaces an installed gunicorn, too, so that a configuration
means the same on every machine. Only processes that execute a configuration have it.
"""

from __future__ import annotations

import sys
from types import ModuleType

from starman.gunicorn.known_settings import KNOWN_SETTINGS
from starman.gunicorn.stand_in_logger import Logger
from starman.gunicorn.workers.stand_in_modules import FILE, further_modules
from starman.gunicorn.workers.surroundings import SERVER_SOFTWARE, VERSION, VERSION_TEXT

# What a configuration may change.
NAMES = {"SERVER": "gunicorn", "SERVER_SOFTWARE": SERVER_SOFTWARE}
# The modules and the classes of workers in them.
WORKERS = {
    "gunicorn.workers.base": "Worker",
    "gunicorn.workers.sync": "SyncWorker",
    "gunicorn.workers.gthread": "ThreadWorker",
    "gunicorn.workers.ggevent": "GeventWorker",
    "gunicorn.workers.geventlet": "EventletWorker",
    "gunicorn.workers.gtornado": "TornadoWorker",
}


class Worker:
    """The base of the classes of workers. Its subclasses are never run: `mapping` says what becomes of them."""


class Response:
    """The response of gunicorn, for configurations that replace `default_headers` to remove the Server field."""

    def default_headers(self) -> list[str]:
        """The lines that gunicorn puts into each response."""
        return ["HTTP/1.1 200 OK\r\n", "Server: gunicorn\r\n", "Connection: close\r\n"]


class Setting:
    """The base of the classes in `gunicorn.config`, which have the names and defaults of the settings."""

    name = ""
    default: object = None


_DEFAULT_HEADERS = Response.default_headers


def install() -> None:
    """Put the stand-in into sys.modules, in place of gunicorn and its modules. May be called again."""
    if getattr(sys.modules.get("gunicorn"), "__stand_in__", False):
        return
    for name in [name for name in sys.modules if name == "gunicorn" or name.startswith("gunicorn.")]:
        del sys.modules[name]
    for name, names in _modules().items():
        module = ModuleType(name, "Stands in for a module of gunicorn.")
        module.__dict__.update(names, __path__=[], __file__=FILE, __stand_in__=True)
        sys.modules[name] = module
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(sys.modules[parent], last, module)


def server_field() -> str | None:
    """The Server field that the configuration has chosen by changing gunicorn: its text, or "off"; None if it has not
    changed it."""
    modules = [sys.modules[name] for name in ("gunicorn.http.wsgi", "gunicorn") if name in sys.modules]
    for module in modules:
        for name in ("SERVER", "SERVER_SOFTWARE"):
            value = getattr(module, name, None)
            if isinstance(value, str) and value != NAMES[name]:
                return value.strip() or "off"
    response = getattr(modules[0], "Response", None) if modules else None
    if response is not None and (response is not Response or Response.default_headers is not _DEFAULT_HEADERS):
        try:
            lines = list(response.default_headers(Response()))
        except Exception:  # code of the configuration, for an object that is not here
            return None
        return None if any(str(line).lower().startswith("server:") for line in lines) else "off"
    return None


def remove_if_installed() -> None:
    """After the configuration has run in a process that serves: let the application import the real gunicorn, if there
    is one."""
    import importlib.util

    removed = {name: sys.modules.pop(name) for name in list(sys.modules) if name == "gunicorn" or name.startswith("gunicorn.")}
    if importlib.util.find_spec("gunicorn") is None:
        sys.modules.update(removed)


def _modules() -> dict[str, dict[str, object]]:
    """The names in each module, parents first."""
    modules: dict[str, dict[str, object]] = {
        "gunicorn": {"version_info": VERSION, "__version__": VERSION_TEXT, **NAMES},
        "gunicorn.util": {},
        "gunicorn.http": {},
        "gunicorn.http.wsgi": {**NAMES, "Response": Response},
        "gunicorn.instrument": {},
        "gunicorn.instrument.statsd": {"Statsd": Logger},
        "gunicorn.glogging": {"Logger": Logger, "CONFIG_DEFAULTS": CONFIG_DEFAULTS},
        "gunicorn.config": _settings(),
        "gunicorn.errors": {name: type(name, (Exception,), {}) for name in ("HaltServer", "ConfigError", "AppImportError")},
        "gunicorn.workers": {"SUPPORTED_WORKERS": {"sync": "gunicorn.workers.sync.SyncWorker"}},
        "gunicorn.arbiter": {"Arbiter": type("Arbiter", (), {})},
        "gunicorn.app": {},
        "gunicorn.app.base": {name: type(name, (), {}) for name in ("BaseApplication", "Application")},
        "gunicorn.app.wsgiapp": {"WSGIApplication": type("WSGIApplication", (), {})},
    }
    for module, further in further_modules().items():
        modules[module] = {**further, **modules.get(module, {})}
    for module, name in WORKERS.items():
        modules[module] = {name: Worker if name == "Worker" else type(name, (Worker,), {"__module__": module})}
    return modules


def _settings() -> dict[str, object]:
    """A class for each setting: AccessLogFormat for access_log_format."""
    found: dict[str, object] = {"Setting": Setting, "KNOWN_SETTINGS": []}
    for known in KNOWN_SETTINGS.values():
        name = "".join(part.capitalize() for part in known.name.split("_"))
        found[name] = type(name, (Setting,), {"name": known.name, "default": known.default})
    return found


# What a configuration file may copy and change for its logconfig_dict.
CONFIG_DEFAULTS: dict[str, object] = {
    "version": 1,
    "disable_existing_loggers": False,
    "root": {"level": "INFO", "handlers": ["console"]},
    "loggers": {
        "gunicorn.error": {
            "level": "INFO",
            "handlers": ["error_console"],
            "propagate": True,
            "qualname": "gunicorn.error",
        },
        "gunicorn.access": {"level": "INFO", "handlers": ["console"], "propagate": True, "qualname": "gunicorn.access"},
    },
    "handlers": {
        "console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stdout"},
        "error_console": {"class": "logging.StreamHandler", "formatter": "generic", "stream": "ext://sys.stderr"},
    },
    "formatters": {
        "generic": {
            "format": "%(asctime)s [%(process)d] [%(levelname)s] %(message)s",
            "datefmt": "[%Y-%m-%d %H:%M:%S %z]",
            "class": "logging.Formatter",
        }
    },
}
