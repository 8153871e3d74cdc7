"""The end of a process that has loaded an application: what Python does at the end of a program, within a time limit.

Thread pools, process pools and multiprocessing wait for their work there, which may never end.
"""

from __future__ import annotations

import os
import sys
import time

from starman import log
from starman.log.tracebacks import format_exception
from starman.process.forking import flush

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

# How long (seconds) the exit functions of a worker may take at least, even after a drain that has used all its time.
LEAST_SECONDS = 1.0
# How long (seconds) those of a process may take that has served nothing: a mold, or a child that tries the application.
UNSERVED_SECONDS = 3.0
# The longest wait: time.sleep refuses one of centuries.
_MOST_SECONDS = 1e8


def leave(status: int, seconds: float = LEAST_SECONDS, *, first: Callable[[], object] | None = None) -> NoReturn:
    """End a worker: call `first`, have thread pools and process pools end, run what the application has registered with atexit,
    flush, and end the process. After `seconds` the process ends in any case. Main thread.

    Hazard 16: not by `sys.exit`, which would wait for threads of the application, and would run what lies further up the
    stack: the code of the program that has embedded us.
    """
    import atexit

    try:
        limit(seconds, status)
        if first is not None:
            first()
        end_pools()
        atexit._run_exitfuncs()
        flush()
        log.finish()
    finally:
        os._exit(status)


def end_unserved(status: int) -> NoReturn:
    """End a process that has loaded the application and served nothing: its pools and its multiprocessing children end with it;
    what is registered with atexit is not run. After UNSERVED_SECONDS it ends in any case. Main thread."""
    try:
        multiprocessing = sys.modules.get("multiprocessing.util")
        exit_function = getattr(multiprocessing, "_exit_function", None)
        if _threading_functions() or exit_function is not None:
            limit(UNSERVED_SECONDS, status)
            end_pools()
            if exit_function is not None:
                _run((exit_function,))
        flush()
        log.finish()
    finally:
        os._exit(status)


def end_pools() -> None:
    """Run the functions that Python runs before it joins the threads of a program. concurrent.futures registers some, which let
    its thread pools and process pools finish their work. The last registered runs first. Exceptions are logged."""
    _run(_threading_functions()[::-1])


def disown_children() -> None:
    """Call in a worker whose mold has loaded the application: forget the processes that multiprocessing has started in the mold.
    Otherwise the worker would kill them, or wait for them, at its end."""
    children = getattr(sys.modules.get("multiprocessing.process"), "_children", None)
    if isinstance(children, set):
        children.clear()


def limit(seconds: float, status: int) -> None:
    """End this process with `status` after so many seconds, and say in the error log what it was doing. Main thread."""
    import threading

    def end() -> None:
        time.sleep(min(seconds, _MOST_SECONDS))
        try:
            taken = f"the exit functions of the application have taken {seconds:.1f} s"
            log.warning(f"{taken}, and are cut short{_still_running()}\n{stack()}")
            log.finish()
        finally:
            os._exit(status)

    main = threading.get_ident()

    def stack() -> str:
        import traceback

        return "".join(traceback.format_stack(sys._current_frames().get(main)))

    try:
        threading.Thread(target=end, name="starman-exit", daemon=True).start()
    except RuntimeError as error:  # the master still kills a worker that does not end
        log.warning(f"the exit functions of the application have no time limit, because no thread can be started: {error}")


def _still_running() -> str:
    """The children of multiprocessing that live on."""
    children: Iterable[Any] = getattr(sys.modules.get("multiprocessing.process"), "_children", ())
    names = [f"{child.name} ({child.pid})" for child in list(children)]
    return f"; these processes live on: {', '.join(names)}" if names else ""


def _threading_functions() -> list[Callable[[], object]]:
    """The functions registered by CPython's `threading._register_atexit`; none where Python has no such list."""
    return list(getattr(sys.modules.get("threading"), "_threading_atexits", ()))


def _run(functions: Iterable[Callable[[], object]]) -> None:
    for function in functions:
        try:
            function()
        except BaseException as error:
            log.error(f"an exit function failed\n{format_exception(error)}")
