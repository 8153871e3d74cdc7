"""Leaves out the monkey patches of gevent and eventlet while a configuration runs: its workers run real threads here.

A process that is patched could not serve, because its threads would be greenlets.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from contextlib import contextmanager
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# `gevent` itself is imported as usual; of eventlet, the package has the function.
_PATCHING = ("gevent.monkey", "eventlet")


class _WithoutEffect(ModuleType):
    """A module in which every function does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **keywords: None


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules without effect in place of those that patch. As a finder, so that `import gevent.monkey` imports
    the package, too, and makes the module its attribute."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in _PATCHING else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return _WithoutEffect(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Nothing to do."""


@contextmanager
def left_out() -> Iterator[None]:
    """Replace the modules that patch, unless they are imported already. Main thread."""
    finder = _Finder()
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in _PATCHING:
            if isinstance(sys.modules.get(name), _WithoutEffect):
                del sys.modules[name]
        package = sys.modules.get("gevent")
        if package is not None and isinstance(getattr(package, "monkey", None), _WithoutEffect):
            del package.monkey
