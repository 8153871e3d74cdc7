"""Recognises names in a configuration file that are meant as a setting of gunicorn, but are none.

gunicorn ignores every name that it does not have, because a configuration file also has variables of its own.
"""

from __future__ import annotations

from types import ModuleType

from starman.gunicorn.known_settings import KNOWN_SETTINGS

# Found in public configuration files.
_FOUND = {
    "preload": "preload_app",
    "access_logfile": "accesslog",
    "access_log": "accesslog",
    "error_logfile": "errorlog",
    "error_log": "errorlog",
    "log_file": "errorlog",
    "logfile": "errorlog",
    "log_level": "loglevel",
    "keepalive_timeout": "keepalive",
    "keep_alive": "keepalive",
    "limit_request_field": "limit_request_fields",
    "ssl_options": "certfile and keyfile",
    "pid": "pidfile",
}


def misspelt(name: str, value: object) -> str | None:
    """The setting that the name in a configuration file probably means; None if it may be a variable of the file."""
    if name.startswith("_") or isinstance(value, ModuleType | type) or callable(value):
        return None
    if name in _FOUND:
        return _FOUND[name]
    for setting in KNOWN_SETTINGS.values():
        if f"--{name.replace('_', '-')}" in setting.flags:
            return setting.name
    import difflib

    # Few variables of a file are numbers, so less similar names count for these: workerz.
    cutoff = 0.85 if type(value) is int else 0.9
    matches = difflib.get_close_matches(name, KNOWN_SETTINGS, n=1, cutoff=cutoff)
    return matches[0] if matches else None
