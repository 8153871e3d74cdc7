"""logconfig, logconfig_json and logconfig_dict: the configurations of Python's `logging`, as plain data. And
access_log_format, as starman takes it."""

from __future__ import annotations

import json
import re
import sys

from starman.config.access_log_format import is_atom
from starman.gunicorn.stand_in import CONFIG_DEFAULTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.gunicorn.configuration import Resolved

ACCESS_LOGGER = "gunicorn.access"
_ATOM = re.compile(r"%%|%\(([^)]*)\)s")


class LogConfiguration:
    """A configuration of `logging`. name: the setting of gunicorn that gives it. config: the path of a file for
    fileConfig, or a mapping for dictConfig. access: whether it has a logger for the access log."""

    __slots__ = ("access", "config", "name")

    def __init__(self, name: str, config: str | dict[str, object], *, access: bool) -> None:
        self.name = name
        self.config = config
        self.access = access


def log_configuration(resolved: Resolved) -> LogConfiguration | None:
    """The configuration that gunicorn would use: the first of the dict, the JSON file and the other file. None if
    there is none. Raises ValueError or OSError for one that cannot be used."""
    mapping = resolved.value("logconfig_dict")
    if isinstance(mapping, dict) and mapping:
        return _of_mapping("logconfig_dict", mapping)
    path = resolved.value("logconfig_json")
    if path:
        with open(str(path), encoding="utf-8") as file:
            found = json.load(file)
        if not isinstance(found, dict):
            raise ValueError(f"{path} has no JSON object")
        return _of_mapping("logconfig_json", found)
    path = resolved.value("logconfig")
    if path:
        with open(str(path), encoding="utf-8") as file:
            return LogConfiguration("logconfig", str(path), access=ACCESS_LOGGER in file.read())
    return None


def _of_mapping(name: str, mapping: dict[str, object]) -> LogConfiguration:
    """As gunicorn does: parts that are missing are its own."""
    merged = plain({**CONFIG_DEFAULTS, **mapping})
    assert isinstance(merged, dict)
    loggers = merged.get("loggers")
    return LogConfiguration(name, merged, access=isinstance(loggers, dict) and ACCESS_LOGGER in loggers)


def plain(value: object) -> object:
    """The same value as plain data: streams and classes become their names. Raises ValueError for other objects."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [plain(item) for item in value]
    if value is None or type(value) in (str, int, float, bool):
        return value
    for name in ("stdout", "stderr"):
        if value is getattr(sys, name):
            return f"ext://sys.{name}"
    module, qualified = getattr(value, "__module__", None), getattr(value, "__qualname__", None)
    if isinstance(module, str) and isinstance(qualified, str) and "<" not in qualified and module != "__config__":
        return f"{module}.{qualified}"
    raise ValueError(f"{value!r} is no plain data: name classes as text, such as my.module.Formatter")


def known_atoms(text: str) -> tuple[str, list[str]]:
    """A format for the access log in which "-" stands for each atom that does not exist, as gunicorn writes it, and
    these atoms."""
    unknown: list[str] = []

    def known(found: re.Match[str]) -> str:
        name = found[1]
        if name is None or is_atom(name):
            return found[0]
        lower = name[:-1] + name[-1:].lower()
        if name.startswith("{") and is_atom(lower):
            return f"%({lower})s"  # gunicorn takes {Host}I for {Host}i
        unknown.append(found[0])
        return "-"

    return _ATOM.sub(known, text), unknown
