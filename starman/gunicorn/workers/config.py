"""Stands in for gunicorn's `Config`, which hooks and classes of loggers receive as `cfg`."""

from __future__ import annotations

import os
from types import SimpleNamespace

from starman.gunicorn.bind import parse_bind
from starman.gunicorn.known_settings import KNOWN_SETTINGS
from starman.gunicorn.mapping.outcomes import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starman.gunicorn.configuration import Resolved

_SSL = (
    "keyfile",
    "certfile",
    "ssl_version",
    "cert_reqs",
    "ca_certs",
    "suppress_ragged_eofs",
    "do_handshake_on_connect",
    "ciphers",
)


class Config:
    """The settings of gunicorn, as attributes (`cfg.workers`), and what gunicorn derives from them.

    settings: the same settings by their names, each with `name`, `value`, `default` and `get()`. env_orig: the
    environment of this process when it made the object.
    """

    def __init__(self, resolved: Resolved) -> None:
        values = {name: value.value for name, value in resolved.values.items()}
        self.__dict__.update(values)
        self.settings = {name: _Setting(name, value) for name, value in values.items()}
        self.env_orig = dict(os.environ)
        self.prog = self.usage = None
        self.address = [_address(bind) for bind in values["bind"]]  # type: ignore[attr-defined]
        self.is_ssl = values["certfile"] or values["keyfile"]
        self.env = dict(text.split("=", 1) for text in values["raw_env"] if "=" in text)  # type: ignore[attr-defined]
        self.uid = os.geteuid() if values["user"] is None else values["user"]
        self.gid = os.getegid() if values["group"] is None else values["group"]
        self.worker_class_str = _worker_class_name(values["worker_class"], values["threads"])
        self.proc_name = values["proc_name"] or values["default_proc_name"]
        self.ssl_options = {name: values[name] for name in _SSL}

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"gunicorn has no setting {name}, and starman's stand-in for its Config has no such attribute")

    def __str__(self) -> str:
        return "\n".join(f"{name:32} = {shown(setting.value)}" for name, setting in sorted(self.settings.items()))

    def set(self, name: str, value: object) -> None:
        """Change a setting for later hooks of the same process. The server keeps the value that it has."""
        if name not in self.settings:
            raise AttributeError(f"No configuration setting for: {name}")
        self.settings[name].value = self.__dict__[name] = value


class _Setting(SimpleNamespace):
    """One setting."""

    name: str
    value: object

    def __init__(self, name: str, value: object) -> None:
        super().__init__(name=name, value=value, default=KNOWN_SETTINGS[name].default)

    def get(self) -> object:
        """The value."""
        return self.value


def _worker_class_name(worker_class: object, threads: object) -> str:
    """The class of the workers, as gunicorn's log has it."""
    if not isinstance(worker_class, str):
        return str(getattr(worker_class, "__name__", worker_class))
    sync = worker_class == "sync" or worker_class.endswith("SyncWorker")
    return "gthread" if sync and isinstance(threads, int) and threads > 1 else worker_class


def _address(bind: str) -> object:
    """The address as gunicorn's sockets have it: (host, port), a path, or the number of a descriptor."""
    host, port = parse_bind(bind)
    if port:
        return host, int(port)
    return int(host.removeprefix("fd://")) if host.startswith("fd://") else host.removeprefix("unix:")
