"""Imports the application that the settings name: "module:app", a file, an expression, or one found in the directory.

Runs in the mold, in a worker, or in a child of `--check`; the master calls only `describe`. An exception of the
application's code becomes a LoadError with its traceback, without the frames of starman.
"""

from __future__ import annotations

import functools
import os
import sys

from starman.application_check import check_application, kind_of
from starman.config.settings import nearest
from starman.discovery import find_application
from starman.errors import HookError, LoadError, NoApplicationError
from starman.log.tracebacks import class_name, format_exception, safe_text, short_class_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    import traceback
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any, TypeVar
    from wsgiref.types import WSGIApplication

    from starman.config.settings import Settings

    Result = TypeVar("Result")

DEFAULT_NAMES = ("app", "application")
NOT_THERE = object()
INLINE_NAME = "<--eval>"
OUR_DIRECTORY = os.path.dirname(os.path.abspath(__file__)) + os.sep


def load_application(settings: Settings) -> WSGIApplication:
    """Import the application that `settings` name, and mount it under `settings.path`.

    Puts the directory of the application's file, `include` and the working directory first on sys.path, in that order,
    and imports the module of `hooks`, then `modules`, first. Raises LoadError if the application cannot be found or
    imported, or is not callable. Call once per process, in the main thread.
    """
    from starman.wsgi.mount import mount

    here = os.getcwd()
    # Before the modules are imported, which may change the working directory.
    target = settings.app or (find_application(here) if settings.eval is None else "")
    load_hooks(settings)
    modules = [_import(name, f"module {name!r} (--modules)") for name in settings.modules]
    application = _load(target, here) if settings.eval is None else _evaluate(settings.eval, modules)
    return mount(application, settings.path)


def add_directories(settings: Settings) -> None:
    """Put `include` and the working directory first on sys.path."""
    _extend_path([*(os.path.abspath(directory) for directory in settings.include), os.getcwd()])


def load_hooks(settings: Settings) -> None:
    """Put `include` and the working directory first on sys.path, and import the module or file that the setting
    `hooks` names, if any. Raises LoadError."""
    here = os.getcwd()
    add_directories(settings)
    if settings.hooks is None:
        return
    what = f"{settings.hooks!r} (--hooks)"
    if os.sep in settings.hooks or settings.hooks.endswith(".py"):
        _import_file(os.path.join(here, settings.hooks), what)
    elif all(part.isidentifier() for part in settings.hooks.split(".")):
        _import(settings.hooks, what)
    else:
        raise LoadError(f"cannot load {what}: write a module (package.module), or the path of a file (dir/file.py)")
    from starman import hooks

    hooks.note_module()


def describe(settings: Settings, application: object = None) -> str:
    """A short name of the application, for titles and logs. Imports nothing; never raises.

    `application` is the callable that was given to `run()`, if one was.
    """
    if application is not None:
        try:
            named = application if hasattr(application, "__qualname__") else type(application)
            return f"{getattr(named, '__module__', None) or 'built-in'}:{named.__qualname__}"
        except Exception:  # a proxy that is not bound yet, for example
            return class_name(application)
    if settings.eval is not None:
        expression = " ".join(settings.eval.split())
        return f"-e {expression if len(expression) <= 60 else expression[:59] + '…'}"
    try:
        return settings.app or find_application(os.getcwd())
    except (LoadError, OSError):
        return "no application"


def application_traceback(error: BaseException) -> str:
    """The traceback of `error`, as Python prints it, without the frames of starman and of the import system. Never
    raises."""
    try:
        return _application_traceback(error)
    except BaseException:
        return format_exception(error).rstrip("\n")


def _application_traceback(error: BaseException) -> str:
    import traceback

    report = traceback.TracebackException.from_exception(error)
    seen: set[int] = set()

    def strip(part: traceback.TracebackException | None) -> None:
        if part is None or id(part) in seen:
            return
        seen.add(id(part))
        part.stack = traceback.StackSummary.from_list([frame for frame in part.stack if _is_application(frame.filename)])
        for inner in (part.__cause__, part.__context__, *(part.exceptions or [])):
            strip(inner)

    strip(report)
    return "".join(report.format()).rstrip("\n")


def _is_application(filename: str) -> bool:
    """Whether a frame belongs to the application or its libraries, not to starman or importlib."""
    if filename.startswith(("<frozen importlib", OUR_DIRECTORY)):
        return False
    return os.path.join("importlib", "__init__.py") not in filename


def _load(target: str, directory: str) -> WSGIApplication:
    """The application of `target`: PLACE or PLACE:NAME, where PLACE is a module, or a file as seen from
    `directory`."""
    place, colon, expression = target.partition(":")
    path = os.path.join(directory, place)
    if os.sep in place or place.endswith(".py") or (os.path.isfile(path) and not place.isidentifier()):
        module = _import_file(path, repr(target))
    elif place and all(part.isidentifier() for part in place.split(".")):
        module = _import(place, repr(target))
    else:
        raise LoadError(f"cannot load {target!r}: write module:app, module, module:factory(), or the path of a file")
    if not colon:
        name, application = _default(module, target)
        return check_application(application, repr(target), f"{place}:{name}")
    application = _resolve(module, expression, target)
    return check_application(application, repr(target), "" if expression.rstrip().endswith(")") else target)


def _import(name: str, what: str) -> ModuleType:
    """The module `name`; `what` names it in the LoadError."""
    import importlib

    try:
        return _run_application_code(lambda: importlib.import_module(name), what)
    except LoadError as error:
        cause = error.__cause__
        if not isinstance(cause, ModuleNotFoundError) or not cause.name or _application_ran(cause):
            raise
        # The module itself or its package is missing, and no code of the application ran. Otherwise the application
        # has imported a missing module, and the original message says more.
        if f"{name}.".startswith(f"{cause.name}."):
            raise LoadError(f"cannot load {what}: {cause}; looked in {_places()}") from None
        raise


def _import_file(path: str, what: str) -> ModuleType:
    """The module of a file, under the name of its stem, its directory first on sys.path (as `python FILE` has it).
    `what` names it in the LoadError."""
    import importlib.machinery
    import importlib.util

    candidates = [os.path.abspath(path)] if path.endswith(".py") else [os.path.abspath(path), os.path.abspath(path + ".py")]
    found = next((candidate for candidate in candidates if os.path.isfile(candidate)), None)
    if found is None:
        raise LoadError(f"cannot load {what}: no such file: {' or '.join(candidates)}")
    stem = os.path.splitext(os.path.basename(found))[0]
    _extend_path([os.path.dirname(found)])
    present = sys.modules.get(stem)
    if present is not None:
        origin = getattr(present, "__file__", None)
        if origin and os.path.realpath(origin) == os.path.realpath(found):
            return present
        raise LoadError(
            f"cannot load {what}: another module {stem!r} ({origin or 'built-in'}) is already imported; rename the file"
        )
    loader: Any = importlib.machinery.SourceFileLoader(stem, found)  # mypy wants load_module, which 3.15 has not
    spec = importlib.util.spec_from_file_location(stem, found, loader=loader)
    assert spec is not None  # the loader is given
    module = importlib.util.module_from_spec(spec)
    sys.modules[stem] = module
    try:
        _run_application_code(lambda: loader.exec_module(module), what)
    except BaseException:
        sys.modules.pop(stem, None)
        raise
    return module


def _evaluate(expression: str, modules: list[ModuleType]) -> WSGIApplication:
    """The value of an expression that can use the modules of --modules, under the names that `import` would bind."""
    namespace: dict[str, object] = {"__name__": "__inline__"}
    for module in modules:
        package = module.__name__.partition(".")[0]
        namespace[package] = sys.modules[package]
    what = "the application of --eval"
    code = _run_application_code(lambda: compile(expression.strip(), INLINE_NAME, "eval"), what)
    return check_application(_run_application_code(lambda: eval(code, namespace), what), what)


def _resolve(module: ModuleType, expression: str, target: str) -> object:
    """NAME, NAME.NAME…, or either called with literal arguments, in `module`."""
    import ast

    try:
        node = ast.parse(expression.strip(), mode="eval").body
        call = node if isinstance(node, ast.Call) else None
        names = _names(node if call is None else call.func)
        arguments = [] if call is None else [ast.literal_eval(argument) for argument in call.args]
        keywords = {} if call is None else {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        if "None" in keywords:  # f(**mapping) has no name
            raise ValueError
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        raise NoApplicationError(
            f"cannot load {target!r}: write a name, or a call with literal arguments, after the colon"
        ) from None
    found: object = module
    for name in names:
        found = _attribute(found, name, target)
    if call is None:
        return found
    if not callable(found):
        raise NoApplicationError(f"cannot load {target!r}: {'.'.join(names)} is {kind_of(found)}, which cannot be called")
    factory: Callable[..., object] = found
    try:
        return _run_application_code(lambda: factory(*arguments, **keywords), repr(target))
    except LoadError as error:
        if isinstance(error.__cause__, TypeError) and not error.details:  # the arguments do not fit
            raise NoApplicationError(str(error)) from error.__cause__
        raise


def _names(node: object) -> list[str]:
    """["a", "b"] for the expression a.b; ValueError for any other."""
    import ast

    if isinstance(node, ast.Name):
        return [node.id]
    if isinstance(node, ast.Attribute):
        return [*_names(node.value), node.attr]
    raise ValueError


def _attribute(owner: object, name: str, target: str) -> object:
    try:
        return _run_application_code(lambda: getattr(owner, name), repr(target))
    except LoadError as error:
        if not isinstance(error.__cause__, AttributeError) or _application_ran(error.__cause__):
            raise
        raise NoApplicationError(f"cannot load {target!r}: {_place(owner)} has no {name!r}{nearest(name, dir(owner))}") from None


def _default(module: ModuleType, target: str) -> tuple[str, object]:
    """The first of DEFAULT_NAMES that exists in `module`, and its value."""
    for name in DEFAULT_NAMES:
        found = _run_application_code(functools.partial(getattr, module, name, NOT_THERE), repr(target))
        if found is not NOT_THERE:
            return name, found
    public = [name for name in vars(module) if not name.startswith("_")]
    hint = nearest(DEFAULT_NAMES[0], public) or nearest(DEFAULT_NAMES[1], public)
    raise NoApplicationError(
        f"cannot load {target!r}: {_place(module)} has neither {' nor '.join(map(repr, DEFAULT_NAMES))}{hint}"
    )


def _run_application_code(code: Callable[[], Result], what: str) -> Result:
    """Run code of the application. Any exception, also SystemExit, becomes a LoadError; KeyboardInterrupt is raised
    again, and so is the HookError of a hook of gunicorn that ran, which names the hook."""
    try:
        return code()
    except (KeyboardInterrupt, HookError):
        raise
    except BaseException as error:
        words = (safe_text(error).strip() or "without a message").splitlines()[0]
        details = application_traceback(error)
        if "\n" not in details:  # no frame of the application: for example, a factory was called with wrong arguments
            details = ""
        raise LoadError(f"cannot load {what}: {short_class_name(error)}: {words}", details) from error


def _application_ran(error: BaseException) -> bool:
    """Whether the traceback of `error` has a frame of the application."""
    trace = error.__traceback__
    while trace is not None:
        if _is_application(trace.tb_frame.f_code.co_filename):
            return True
        trace = trace.tb_next
    return False


def _extend_path(directories: list[str]) -> None:
    """Put `directories` first on sys.path, in their order."""
    sys.path[:] = [*dict.fromkeys(directories), *(entry for entry in sys.path if entry not in directories)]


def _places() -> str:
    """The directories of sys.path, the first few by name: where the application may be, then where packages are
    installed."""
    here = os.getcwd()
    places = [path or here for path in sys.path]
    # The entries in front of the working directory were put into sys.path for the application.
    own = places.index(here) + 1 if here in places else 0
    places = [*places[:own], *sorted(places[own:], key=_rank)]
    first = ", ".join(places[:4])
    return first if len(places) <= 4 else f"{first}, and {len(places) - 4} more of sys.path"


def _rank(path: str) -> int:
    """The rank of a directory of sys.path in the error about a missing module: the lowest is named first."""
    if os.path.basename(path) in ("site-packages", "dist-packages"):
        return 0
    standard_library = os.path.dirname(str(os.__file__))
    return 2 if path.endswith(".zip") or f"{path}/".startswith(f"{standard_library}/") else 1


def _place(owner: object) -> str:
    name = getattr(owner, "__name__", None)
    file = getattr(owner, "__file__", None)
    return f"{name} ({file})" if name and file else str(name or kind_of(owner))
