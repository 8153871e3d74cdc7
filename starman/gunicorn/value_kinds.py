"""The kinds of values that gunicorn's settings take, and how each is read from the command line or a configuration
file.

Runs in the child that executes the configuration.
"""

from __future__ import annotations

import glob
import inspect
import ipaddress
import os
import re

from starman.gunicorn.bind import parse_bind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def read_text(value: object) -> object:
    """A text without white space around it, or None."""
    if value is None:
        return None
    if not isinstance(value, str):
        raise TypeError(f"not a string: {value!r}")
    return value.strip()


def read_texts(value: object) -> object:
    """A list of texts. One text stands for a list of one; anything empty for an empty list."""
    if not value:
        return []
    items = [value] if isinstance(value, str) else value
    if not isinstance(items, (list, tuple, set, frozenset)):
        raise TypeError(f"not a list of strings: {value!r}")
    return [str(read_text(item)) for item in items]


def read_binds(value: object) -> object:
    """A list of addresses, each as gunicorn writes it."""
    binds = read_texts(value)
    assert isinstance(binds, list)
    for bind in binds:
        parse_bind(bind)
    return binds


def read_files(value: object) -> object:
    """A list of files and patterns. A file must exist; a pattern may match nothing."""
    files = read_texts(value)
    assert isinstance(files, list)
    for file in files:
        if not glob.has_magic(file) and not os.path.exists(file):
            raise ValueError(f"file {file} does not exist")
    return files


def read_list(value: object) -> object:
    """A list of texts, written as one text with commas."""
    text = read_text(value)
    return [item.strip() for item in str(text).split(",") if item] if text else []


def read_networks(value: object) -> object:
    """A list of IP addresses and networks, or "*", written as one text with commas."""
    networks = read_list(value)
    assert isinstance(networks, list)
    for network in networks:
        if network != "*":
            ipaddress.ip_network(network)
    return networks


def read_number(value: object) -> object:
    """A whole number of at least 0: an int, or text that is written as in Python ("0x10")."""
    if isinstance(value, int):
        number = int(value)
    elif isinstance(value, str):
        number = int(value, 0)
    else:
        raise TypeError(f"not a whole number: {value!r}")
    if number < 0:
        raise ValueError(f"not a positive number: {value!r}")
    return number


def read_octal(value: object) -> object:
    """A whole number of a command line, where 022 is octal."""
    return int(re.sub(r"^0(?=\d)", "0o", str(value)), 0)


def read_flag(value: object) -> object:
    """True, False or None, or a text of these two."""
    word = value.strip().lower() if isinstance(value, str) else value
    if word in ("true", "false"):
        return word == "true"
    if value is None or isinstance(value, bool):
        return value
    raise (ValueError if isinstance(value, str) else TypeError)(f"neither True nor False: {value!r}")


def read_mapping(value: object) -> object:
    """A dict."""
    if not isinstance(value, dict):
        raise TypeError(f"not a dictionary: {value!r}")
    return value


def read_class(value: object) -> object:
    """A class, the name of one, or a function that returns either."""
    if inspect.isfunction(value) or inspect.ismethod(value):
        value = value()
    return value if inspect.isclass(value) else read_text(value)


def read_user(value: object) -> object:
    """A user: its name, which must be known, its number, or None."""
    import pwd

    return _read_account(value, "user", pwd.getpwnam)


def read_group(value: object) -> object:
    """A group: its name, which must be known, its number, or None."""
    import grp

    return _read_account(value, "group", grp.getgrnam)


def _read_account(value: object, what: str, find: Callable[[str], object]) -> object:
    if value is None or isinstance(value, int):
        return value
    if not isinstance(value, str) or not value:
        raise TypeError(f"neither a name nor a number: {value!r}")
    if value.isdigit():
        return int(value)
    try:
        find(value)
    except KeyError:
        raise ValueError(f"there is no such {what}") from None
    return value


def read_folder(value: object) -> object:
    """A directory, which must exist. Returned as an absolute path."""
    path = os.path.abspath(str(read_text(value)))
    if value is None or not os.path.exists(path):
        raise ValueError(f"cannot change to {value!r}: there is no such directory")
    return path


def read_proxy_protocol(value: object) -> object:
    """Whether the PROXY protocol is used: off, auto, v1 or v2."""
    if value is None or isinstance(value, bool):
        return "auto" if value else "off"
    word = str(read_text(value)).lower()
    word = {"false": "off", "0": "off", "none": "off", "true": "auto", "1": "auto"}.get(word, word)
    if word not in ("off", "auto", "v1", "v2"):
        raise ValueError(f"{value!r} is none of off, auto, v1 and v2")
    return word


def read_hook(value: object) -> object:
    """A function, or its name as module.function. Returns the function."""
    if isinstance(value, str):
        module, dot, name = value.rpartition(".")
        if not dot:
            raise TypeError(f"{value!r} is not the name of a function: write module.function")
        import importlib

        try:
            value = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError) as error:
            raise TypeError(f"cannot load {name!r} from {module!r}: {error}") from None
    if not callable(value):
        raise TypeError(f"not a function: {value!r}")
    return value


def check_arguments(function: object, count: int) -> None:
    """Raise TypeError if a hook cannot be called with this many arguments."""
    assert callable(function)
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*range(count))
    except TypeError:
        raise TypeError(f"the function must take {count} argument{'s' if count > 1 else ''}") from None


def read_any(value: object) -> object:
    """Any value: the setting has no effect."""
    return value


class Kind:
    """A kind of value. read: converts a value, or raises ValueError or TypeError."""

    __slots__ = ("metavar", "read")

    def __init__(self, read: Callable[[object], object], metavar: str = "STRING") -> None:
        self.read = read
        self.metavar = metavar


ANY = Kind(read_any)
TEXT = Kind(read_text)
TEXTS = Kind(read_texts)
BINDS = Kind(read_binds, "ADDRESS")
FILES = Kind(read_files, "FILES")
LIST = Kind(read_list)
NETWORKS = Kind(read_networks)
NUMBER = Kind(read_number, "INT")
OCTAL = Kind(read_number, "INT")
FLAG = Kind(read_flag)
MAPPING = Kind(read_mapping)
CLASS = Kind(read_class)
USER = Kind(read_user)
GROUP = Kind(read_group)
FOLDER = Kind(read_folder)
PROXY_PROTOCOL = Kind(read_proxy_protocol, "MODE")
HOOK = Kind(read_hook)
