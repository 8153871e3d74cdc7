"""Checks whether an object can be a WSGI application (PEP 3333) without calling it, and says what is wrong if it
cannot.

Runs where the application is loaded: in a mold, a worker, a child of `--check`, or the program that embeds starman.
"""

from __future__ import annotations

import sys

from starman.errors import LoadError, NoApplicationError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import inspect
    from typing import Any
    from wsgiref.types import WSGIApplication

CO_COROUTINE = 0x80  # of a code object's co_flags: the function was declared with `async def`
# Usual names of functions that make an application: create_app, make_wsgi_app, get_wsgi_application, app_factory.
FACTORY_VERBS = ("create", "make", "build", "get", "new", "init")
# Libraries that replace parts of the standard library by cooperative versions, and the function of each that says
# which modules are patched.
PATCHERS = {"gevent": ("gevent.monkey", "is_module_patched"), "eventlet": ("eventlet.patcher", "is_monkey_patched")}
# The modules that starman's threads and locks depend on.
PATCHED_MODULES = ("thread", "threading", "_thread", "socket", "select", "queue", "time", "os")


def check_application(application: object, what: str, text: str = "") -> WSGIApplication:
    """Return `application` if it can be a WSGI application. `what` names it in errors. `text` is the setting that
    named it ("app:create_app"), for the advice to add parentheses; "" for no advice.

    Raises LoadError if `application` is not callable, is ASGI, or is a factory or class that has to be called first,
    and if the process was patched for green threads.
    """
    refuse_green_threads(what)
    problem = _problem(application)
    if problem is not None:
        hint = f"; did you mean {text}()?" if text and callable(application) and _accepts(application, 0) else ""
        raise NoApplicationError(f"cannot load {what}: {problem}{hint}")
    checked: Any = application
    return checked  # type: ignore[no-any-return]


def refuse_green_threads(what: str) -> None:
    """Raise LoadError if gevent or eventlet has patched this process: starman's threads would be green ones, and
    never run."""
    for library, (module, function) in PATCHERS.items():
        is_patched = getattr(sys.modules.get(module), function, None)
        patched = [] if is_patched is None else [name for name in PATCHED_MODULES if is_patched(name)]
        if patched:
            raise LoadError(
                f"cannot load {what}: {library} has monkey-patched this process ({', '.join(patched)}); starman runs "
                f"applications in real threads, so leave {library}'s monkey-patching out"
            )


def kind_of(value: object) -> str:
    """ "an int", "a Flask": what an object is, in words."""
    name = type(value).__name__
    return "None" if value is None else f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"


def _problem(application: object) -> str | None:
    """Why `application` cannot be a WSGI application; None if it can, or if that is unknown."""
    if not callable(application):
        return f"it is {kind_of(application)}, not a WSGI application, which is a callable"
    try:
        return _visible_problem(application)
    except Exception:  # reading attributes runs code of the object, and fails for an unbound proxy, for example
        return None


def _visible_problem(application: object) -> str | None:
    """The problem that the attributes of a callable show; None if they show none. Raises what reading them raises."""
    for function in (application, getattr(application, "__call__", None)):  # noqa: B004 - the method itself is wanted
        flags = getattr(getattr(function, "__code__", None), "co_flags", 0)
        if isinstance(flags, int) and flags & CO_COROUTINE:  # an object may return anything for any attribute
            return "it is an ASGI application; starman serves WSGI"
    if _accepts(application, 2) is False:
        return "it cannot be called with (environ, start_response), as a WSGI application is"
    name = getattr(application, "__name__", None)
    if isinstance(application, type):
        # A class may be an application (PEP 3333) when its instances are what an application returns: iterables.
        if any("__call__" in vars(base) for base in application.__mro__) and not hasattr(application, "__iter__"):
            return f"{name} is a class; its instances may be WSGI applications"
    elif isinstance(name, str) and _names_a_factory(name) and _accepts(application, 0):
        return "its name and parameters are those of a factory, which returns an application"
    return None


def _names_a_factory(name: str) -> bool:
    return name.partition("_")[0] in FACTORY_VERBS or name.endswith("factory")


def _accepts(function: object, count: int) -> bool | None:
    """Whether `function` can be called with `count` positional arguments; None if that is unknown."""
    import inspect

    try:
        # The signature of the wrapper, not of the function that a decorator wraps: the wrapper is called.
        signature: inspect.Signature = inspect.signature(function, follow_wrapped=False)  # type: ignore[arg-type]
    except Exception:  # C code, or an invalid __signature__
        return None
    try:
        signature.bind(*[None] * count)
    except TypeError:
        return False
    return True
