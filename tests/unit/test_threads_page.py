"""docs/threads.md: the list of objects that two threads touch is complete.

Two searches. One reads the sources: a class that makes a lock, a condition or a deque, or says that any thread may
call it, is on the page. The other one serves requests, and notes which thread reads and changes each object: a class
with an object that one thread has changed after another one had touched it is on the page.
"""

from __future__ import annotations

import ast
import re
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.functional.support.wire import encode_request
from tests.unit.serving.running import Running

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "starman"
PAGE = REPOSITORY / "docs" / "threads.md"
# A row: `Class`, or several, in the first column.
ROW = re.compile(r"^\| (`\w+`(?:, `\w+`)*)(?: \([^|]*\))? \|", re.MULTILINE)

# These run in processes with one thread.
ONE_THREAD = {"observer", "commands", "config", "proto"}
MAKERS = {"Lock", "RLock", "Condition", "allocate_lock", "deque", "SimpleQueue"}
SAYS_SO = re.compile(r"\b[Aa]ny thread|\b[Ee]ither side")


def listed() -> set[str]:
    return {name for row in ROW.findall(PAGE.read_text("utf-8")) for name in re.findall(r"\w+", row)}


def classes() -> Iterator[ast.ClassDef]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0] not in ONE_THREAD:
            yield from (each for each in ast.parse(path.read_text("utf-8")).body if isinstance(each, ast.ClassDef))


def is_shared(found: ast.ClassDef) -> bool:
    """Whether the source of a class says that several threads use it."""
    for node in ast.walk(found):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in MAKERS:
            return True
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and SAYS_SO.search(ast.get_docstring(node) or ""):
            return True
    return False


def test_the_page_has_every_class_that_says_it_is_shared() -> None:
    assert {each.name for each in classes() if is_shared(each)} - listed() == set()


def test_every_class_on_the_page_exists() -> None:
    assert listed() - {each.name for each in classes()} == set()


class Watched:
    """Notes, for each object of the watched classes, which threads have touched it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.touched: dict[int, tuple[object, set[int]]] = {}
        self.shared: set[str] = set()
        for module in [module for name, module in sys.modules.items() if name.startswith("starman.")]:
            for kind in list(vars(module).values()):
                if isinstance(kind, type) and kind.__module__ == module.__name__ and not issubclass(kind, BaseException | tuple):
                    self._watch(kind, monkeypatch)

    def _watch(self, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
        if not str(sys.modules[kind.__module__].__file__).endswith(".py"):
            return  # compiled: its attributes cannot be watched

        def getattribute(instance: object, name: str) -> Any:
            # The test itself looks at the service, in the main thread, where no thread of a worker is.
            if not name.startswith("__") and threading.current_thread() is not threading.main_thread():
                self._note(instance).add(threading.get_ident())
            return object.__getattribute__(instance, name)

        def setattribute(instance: object, name: str, value: object) -> None:
            if threading.current_thread() is not threading.main_thread():
                threads = self._note(instance)
                threads.add(threading.get_ident())
                if len(threads) > 1:
                    self.shared.add(type(instance).__name__)
            object.__setattr__(instance, name, value)

        try:
            monkeypatch.setattr(kind, "__getattribute__", getattribute, raising=False)
            monkeypatch.setattr(kind, "__setattr__", setattribute, raising=False)
        except (TypeError, AttributeError):
            return

    def _note(self, instance: object) -> set[int]:
        # The object is kept, so that no other one gets its identity.
        return self.touched.setdefault(id(instance), (instance, set()))[1]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
    body = environ["wsgi.input"].read()
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/blocks":
        return (b"%d" % number for number in range(100))
    if environ["PATH_INFO"] == "/large":
        return [bytes(3_000_000)]
    if environ["PATH_INFO"] == "/file":
        return environ["wsgi.file_wrapper"](open(__file__, "rb"))
    return [body]


@pytest.mark.parametrize("stream_body", [False, True])
def test_the_page_has_every_class_whose_objects_two_threads_use(
    stream_body: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watched = Watched(monkeypatch)
    settings: dict[str, Any] = {"threads": 3, "access_log": str(tmp_path / "log"), "request_timeout": 30}
    with Running(app, stream_body=stream_body, **settings) as running:
        for path in ("/", "/blocks", "/large", "/file"):
            client = running.client()
            for body in (b"", b"body", bytes(200_000)):
                client.send(encode_request("POST", path, [("Content-Length", str(len(body)))]) + body)
                assert client.read().status == 200
    assert "Writer" in watched.shared  # it has seen something
    assert watched.shared - listed() == set()
