"""The exit of a process that has loaded an application: exit functions and pools, within a time limit.

Thread pools, process pools and multiprocessing wait for their work at the exit of Python, which may never end.
"""

from __future__ import annotations

import os
import sys
import time

from starman import log
from starman.log.tracebacks import format_exception
from starman.process.forking import flush_streams

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any, NoReturn

# The exit functions of a worker have at least this long (seconds), even after a drain that has used all its time.
LEAST_SECONDS = 1.0
# How long (seconds) the exit functions of a process that has served nothing may take: of a mold, or of a trial.
UNSERVED_SECONDS = 3.0
# The longest wait (seconds): time.sleep raises OverflowError for centuries.
_MOST_SECONDS = 1e8


def exit_worker(status: int, seconds: float = LEAST_SECONDS, *, first: Callable[[], object] | None = None) -> NoReturn:
    """End a worker: call `first`, let thread pools and process pools finish, run the application's atexit functions,
    flush, and end the process. After `seconds` the process ends in any case. Main thread.

    Hazard 16: `sys.exit` would wait for the application's threads, and would run the code further up the stack: that
    of the program that has embedded the server.
    """
    import atexit

    try:
        limit_exit_time(seconds, status)
        if first is not None:
            first()
        end_pools()
        atexit._run_exitfuncs()
        flush_streams()
        log.finish()
    finally:
        os._exit(status)


def exit_unserved(status: int) -> NoReturn:
    """End a process that has loaded the application and served nothing. Its pools and its multiprocessing children end
    with it; atexit functions are not run. After UNSERVED_SECONDS it ends in any case. Main thread."""
    try:
        multiprocessing = sys.modules.get("multiprocessing.util")
        exit_function = getattr(multiprocessing, "_exit_function", None)
        if _threading_functions() or exit_function is not None:
            limit_exit_time(UNSERVED_SECONDS, status)
            end_pools()
            if exit_function is not None:
                _run((exit_function,))
        flush_streams()
        log.finish()
    finally:
        os._exit(status)


def end_pools() -> None:
    """Run the functions that Python runs before it joins the threads of a program, the last registered first.
    concurrent.futures registers some, which let its thread pools and process pools finish their work. Exceptions are
    logged."""
    _run(_threading_functions()[::-1])


def disown_children() -> None:
    """Forget the processes that multiprocessing has started in the mold. Call it in a worker after its mold has loaded
    the application: otherwise the worker would kill these processes, or wait for them, when it exits."""
    children = getattr(sys.modules.get("multiprocessing.process"), "_children", None)
    if isinstance(children, set):
        children.clear()


def limit_exit_time(seconds: float, status: int) -> None:
    """End this process with `status` after `seconds`, and log what it was doing. Main thread."""
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
    except RuntimeError as error:  # the master still kills a worker that does not exit
        log.warning(f"the exit functions of the application have no time limit, because no thread can be started: {error}")


def _still_running() -> str:
    """The multiprocessing children that are still running, for the log."""
    children: Iterable[Any] = getattr(sys.modules.get("multiprocessing.process"), "_children", ())
    names = [f"{child.name} ({child.pid})" for child in list(children)]
    return f"; these processes live on: {', '.join(names)}" if names else ""


def _threading_functions() -> list[Callable[[], object]]:
    """The functions registered with CPython's `threading._register_atexit`; none where Python has no such list."""
    return list(getattr(sys.modules.get("threading"), "_threading_atexits", ()))


def _run(functions: Iterable[Callable[[], object]]) -> None:
    for function in functions:
        try:
            function()
        except BaseException as error:
            log.error(f"an exit function failed\n{format_exception(error)}")
