"""Leaves out the monkey patches of gevent and eventlet while a configuration runs: its workers run real threads here.

A process that is patched could not serve, because its threads would be greenlets.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from types import ModuleType

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# `gevent` itself is imported as usual; of eventlet, the package has the function.
_PATCHING = ("gevent.monkey", "eventlet")


class _WithoutEffect(ModuleType):
    """A module in which every function does nothing."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **keywords: None


@contextmanager
def left_out() -> Iterator[None]:
    """Replace the modules that patch, unless they are imported already. Main thread."""
    replaced = {name: _WithoutEffect(name) for name in _PATCHING if name not in sys.modules}
    sys.modules.update(replaced)
    try:
        yield
    finally:
        for name, module in replaced.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
        package = sys.modules.get("gevent")
        if package is not None and isinstance(getattr(package, "monkey", None), _WithoutEffect):
            del package.monkey
