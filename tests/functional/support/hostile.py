"""An application that fails in ways that are hard to show: the path names the fault. Plain PEP 3333."""

from __future__ import annotations

import ctypes
import io
import os
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Body = Iterable[bytes]


class UnprintableError(Exception):
    def __str__(self) -> str:
        raise SystemExit("in __str__")


class UnsettableError(Exception):
    @property
    def __traceback__(self) -> NoReturn:
        raise ZeroDivisionError("in __traceback__")


class EndlessError(Exception):
    """An exception with an endless chain of causes."""

    @property
    def __cause__(self) -> EndlessError:
        return EndlessError()


class Ending(BaseException):
    pass


class Hostile(str):
    """A text that raises in every method."""

    def fail(self, *arguments: object) -> NoReturn:
        raise SystemExit("a hostile text")

    __str__ = __format__ = __eq__ = __len__ = __iter__ = __getitem__ = __contains__ = encode = lower = strip = fail  # type: ignore[assignment]
    partition = split = isascii = translate = replace = startswith = fail  # type: ignore[assignment]
    __hash__ = str.__hash__


class Raising:
    def __getattr__(self, name: str) -> NoReturn:
        raise Ending(name)

    def __str__(self) -> NoReturn:
        raise Ending("str")

    def __bool__(self) -> NoReturn:
        raise Ending("bool")


class Closing:
    """Blocks with a close() that raises, and an end that raises."""

    def __init__(self, blocks: list[bytes]) -> None:
        self.blocks = blocks

    def __iter__(self) -> Iterator[bytes]:
        return iter(self.blocks)

    def close(self) -> NoReturn:
        raise UnprintableError

    def __del__(self) -> NoReturn:
        raise Ending("in __del__")


class File(io.BytesIO):
    def read(self, *size: Any) -> NoReturn:
        raise UnprintableError

    def fileno(self) -> NoReturn:
        raise Ending("fileno")

    def tell(self) -> NoReturn:
        raise Ending("tell")

    def close(self) -> NoReturn:
        raise Ending("close")


class Group(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> NoReturn:  # type: ignore[override]
        raise Ending("exceptions")


def recursion() -> NoReturn:
    recursion()


def long_chain() -> None:
    error: BaseException | None = None
    for _ in range(20_000):
        following = ValueError("link")
        following.__cause__, error = error, following
    assert error is not None
    raise error


RAISED: dict[str, Callable[[], BaseException]] = {
    "syntax": lambda: SyntaxError("x", ("f", 1, "a", "text")),
    "unprintable": UnprintableError,
    "unsettable": UnsettableError,
    "endless": EndlessError,
    "group": lambda: Group("several", [ValueError()]),
    "base": Ending,
    "exit": lambda: SystemExit(Raising()),
    "interrupt": KeyboardInterrupt,
    "generator": GeneratorExit,
    "memory": MemoryError,
}


def app(environ: Environ, start_response: StartResponse) -> Body:
    _, what, *rest = environ["PATH_INFO"].split("/")
    if what == "raise":
        raise RAISED[rest[0]]()
    return FUNCTIONS[what](environ, start_response)


def ok(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


def recurse(environ: Environ, start_response: StartResponse) -> Body:
    recursion()


def chain(environ: Environ, start_response: StartResponse) -> Body:
    long_chain()
    return []


def status(environ: Environ, start_response: StartResponse) -> Body:
    start_response(Hostile("200 OK"), [])
    return [b""]


def value(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [(Hostile("X"), Hostile("y"))])
    return [b""]


def fields(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", Raising())
    return [b""]


def exc_info(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [], Raising())
    return [b""]


def iterable(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [])
    return Raising()  # type: ignore[return-value]


def file(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [])
    wrapped: Body = environ["wsgi.file_wrapper"](File(b"abc"))
    return wrapped


def closing(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [("Content-Length", "2")])
    return Closing([b"ok"])


def mutated(environ: Environ, start_response: StartResponse) -> Body:
    body = ok(environ, start_response)
    for key in list(environ):
        environ[key] = Raising() if key != "REQUEST_URI" else Hostile("x")
    environ.pop("starman.harakiri", None)
    return body


def mutated_failing(environ: Environ, start_response: StartResponse) -> Body:
    for key in list(environ):
        environ[key] = Raising()
    raise UnprintableError


class Colliding:
    """A key that collides with REQUEST_METHOD and REMOTE_ADDR: each lookup of them compares it."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        raise Ending("eq")


def colliding(environ: Environ, start_response: StartResponse) -> Body:
    body = ok(environ, start_response)
    for key in ("REMOTE_ADDR", "REQUEST_METHOD"):
        del environ[key]
        environ[Colliding(key)] = 1  # type: ignore[index]
    return body


def shown(environ: Environ, start_response: StartResponse) -> Body:
    """Raise an exception with the body of the request, which has a line break, as its message."""
    raise ValueError(environ["wsgi.input"].read().decode() + "\nthe end")


def held(environ: Environ, start_response: StartResponse) -> Body:
    """A view of the body's buffer, so that the buffer cannot be closed."""
    environ["wsgi.input"].read()
    environ["wsgi.input"].close()
    return ok(environ, start_response)


def errors(environ: Environ, start_response: StartResponse) -> Body:
    """From now on, the log writes to a stream that cannot be flushed."""
    sys.stderr = Raising()  # type: ignore[assignment]
    raise ValueError("without a stream")


def stderr_none(environ: Environ, start_response: StartResponse) -> Body:
    sys.stderr = None
    raise ValueError("with none")


def stderr_print(environ: Environ, start_response: StartResponse) -> Body:
    sys.stderr = object()  # type: ignore[assignment]
    raise ValueError("with an object")


def exhaust(environ: Environ, start_response: StartResponse) -> Body:
    """Take all memory that a limit allows, in large pieces or in small blocks."""
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (16 << 20), resource.RLIM_INFINITY))
    taken: list[bytes] = []
    while True:
        taken.append(bytes(100 if environ["PATH_INFO"].endswith("blocks") else 1 << 20))


def later(environ: Environ, start_response: StartResponse) -> Body:
    """Have an exception raised in this thread after it has returned from here."""
    ident = threading.get_ident()

    def put() -> None:
        # Asleep in the pool: in interpreted code, in compiled code.
        while sys._current_frames()[ident].f_code.co_name not in ("_sleep", "run"):
            time.sleep(0.01)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(Ending))
        print("put it", file=sys.stderr, flush=True)

    threading.Thread(target=put, daemon=True).start()
    return ok(environ, start_response)


def count(environ: Environ, start_response: StartResponse) -> Body:
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("starman-") and thread.name[8:].isdigit()]
    body = f"{os.getpid()} {len(names)}".encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]


FUNCTIONS: dict[str, Callable[[Environ, StartResponse], Body]] = {
    function.__name__: function
    for function in (
        *(ok, recurse, chain, status, value, fields, exc_info, iterable, file, closing, mutated, mutated_failing, colliding),
        *(exhaust, held, shown, errors, stderr_none, stderr_print, later, count),
    )
}
