"""starman.application_check: what can be a WSGI application, and what is said of what cannot."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from starman.application_check import check_application
from starman.errors import LoadError


def plain(environ: Any, start_response: Any) -> list[bytes]:
    return []


def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that supplies an argument: what it wraps takes three."""

    @functools.wraps(function)
    def wrapper(environ: Any, start_response: Any) -> Any:
        return function(environ, start_response, "database")

    return wrapper


@decorated
def with_database(environ: Any, start_response: Any, database: str) -> list[bytes]:
    return []


def anything(*arguments: Any, **keywords: Any) -> list[bytes]:
    return []


class Instance:
    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []

    def method(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


class Iterable:
    """PEP 3333: a class is an application when its instances are iterables."""

    def __init__(self, environ: Any, start_response: Any) -> None: ...

    def __iter__(self) -> Iterator[bytes]:
        return iter([])


class Lying:
    """Its signature is none."""

    __signature__ = 7

    def __call__(self, *arguments: Any) -> list[bytes]:
        return []


class Unbound(Instance):
    """As a proxy outside of its context: reading an attribute that it has not raises."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"working outside of context: {name}")


class Shut(Instance):
    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)


class Nameless(Instance):
    @property
    def __name__(self) -> str:
        raise LookupError


class Open(Instance):
    """It has every attribute that it is asked for."""

    def __getattr__(self, name: str) -> object:
        return Open()


APPLICATIONS = [
    plain,
    with_database,
    anything,
    Instance(),
    Instance().method,
    Iterable,
    Lying(),
    functools.partial(with_database),
    lambda environ, start_response: [],
    lambda environ, start_response, verbose=False: [],
    mock.Mock(),
    max,
]


@pytest.mark.parametrize("application", APPLICATIONS, ids=lambda application: type(application).__name__)
def test_applications(application: object) -> None:
    assert check_application(application, "'app:it'", "app:it") is application


@pytest.mark.parametrize("kind", [Unbound, Shut, Nameless, Open])
def test_applications_whose_attributes_are_of_no_use(kind: type) -> None:
    application = kind()
    assert check_application(application, "'app:it'", "app:it") is application


def create_app() -> Any: ...
def create_app_of(config: str) -> Any: ...
def create_configured_app(config: str = "", testing: bool = False) -> Any: ...
def app_factory(*arguments: Any) -> Any: ...


class Holder:
    def __init__(self, name: str = "shop", debug: bool = False) -> None: ...

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


UNCALLABLE = "it cannot be called with (environ, start_response), as a WSGI application is"
FACTORY = "its name and parameters are those of a factory, which returns an application"
CLASS = "Holder is a class; its instances may be WSGI applications"
HINT = "; did you mean app:it()?"
OTHERS = [
    (create_app, UNCALLABLE + HINT),
    (create_app_of, UNCALLABLE),
    (create_configured_app, FACTORY + HINT),
    (app_factory, FACTORY + HINT),
    (Holder, CLASS + HINT),
    (lambda: plain, UNCALLABLE + HINT),
    (lambda scope: plain, UNCALLABLE),
    (asgi, "it is an ASGI application; starman serves WSGI"),
    (7, "it is an int, not a WSGI application, which is a callable"),
    (None, "it is None, not a WSGI application, which is a callable"),
    (types, "it is a module, not a WSGI application, which is a callable"),
]


@pytest.mark.parametrize(("application", "words"), OTHERS, ids=[type(it).__name__ for it, _ in OTHERS])
def test_what_is_none(application: object, words: str) -> None:
    with pytest.raises(LoadError) as caught:
        check_application(application, "'app:it'", "app:it")
    assert str(caught.value) == f"cannot load 'app:it': {words}"


def test_where_no_parentheses_can_be_added_there_is_no_such_advice() -> None:
    with pytest.raises(LoadError, match=r"as a WSGI application is$"):
        check_application(create_app, "the application of --eval")


@pytest.mark.parametrize(
    ("library", "module", "function"),
    [("gevent", "gevent.monkey", "is_module_patched"), ("eventlet", "eventlet.patcher", "is_monkey_patched")],
)
def test_a_process_with_green_threads_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, library: str, module: str, function: str
) -> None:
    patched = {"socket", "threading"}
    fake = types.ModuleType(module)
    setattr(fake, function, patched.__contains__)
    monkeypatch.setitem(sys.modules, module, fake)
    with pytest.raises(LoadError) as caught:
        check_application(plain, "'app:app'", "app:app")
    assert str(caught.value) == (
        f"cannot load 'app:app': {library} has monkey-patched this process (threading, socket); starman runs applications in "
        f"real threads, so leave {library}'s monkey-patching out"
    )
    patched.clear()
    check_application(plain, "'app:app'", "app:app")
