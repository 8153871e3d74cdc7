"""The mold: a process that has imported what every worker needs, and forks workers (or another mold) on command.

It has no loop and no thread, for both make a fork unsafe. Never imports asyncio by itself; the blueprint's imports do.
"""

from __future__ import annotations

import os

from starman import log
from starman.errors import StarmanError
from starman.process.channel import Channel
from starman.process.forking import flush, fork, take_signals
from starman.process.messages import Failed, Loaded, Role, Spawn, Spawned
from starman.process.sharing import settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from starman.process.blueprint import Blueprint
    from starman.process.worker import MakeService
    from starman.wsgi.call import Application


def run_mold(channel: Channel, blueprint: Blueprint, *, preload: bool) -> NoReturn:
    """Be a mold, from a fresh fork with its signals blocked until the master closes its end of `channel`.

    With `preload` the application is loaded before the first fork. Never returns. Main thread only.
    """
    status = 1
    try:
        # Said before anything can go wrong or take long.
        channel.send(Spawned(os.getpid()))
        take_signals(stop_ends=False)
        blueprint.title("mold")
        application = _load(channel, blueprint, preload=preload)
        channel.send(Loaded())
        _obey(channel, blueprint, application)
        status = 0
    except StarmanError as error:
        channel.send(Failed(str(error), error.details))
    except BaseException as error:  # SystemExit too: an application's module may call sys.exit
        import traceback

        channel.send(Failed(f"the mold failed: {type(error).__name__}: {error}", traceback.format_exc()))
    finally:
        # Hazard 16: a mold is a copy of the process that it came from; what that would do at its end is not its business.
        flush()
        os._exit(status)


def _load(channel: Channel, blueprint: Blueprint, *, preload: bool) -> Application | None:
    make_service = blueprint.import_service()
    application = blueprint.application
    if preload:
        application = blueprint.load_application()
    else:
        _rehearse(make_service, blueprint.settings.threads)
    settle()
    return application


def _rehearse(make_service: MakeService, threads: int) -> None:
    try:
        make_service.rehearse(threads)
    except Exception:
        import traceback

        # The workers are larger without, and serve as well.
        log.warning(f"the rehearsal failed, so each worker takes about 1 MB more\n{traceback.format_exc()}")


def _obey(channel: Channel, blueprint: Blueprint, application: Application | None) -> None:
    while (received := channel.receive()) is not None:
        message, fds = received
        if isinstance(message, Spawn) and len(fds) == 1:
            _spawn(message, Channel.of_descriptor(fds[0]), channel, blueprint, application)
        else:
            log.error(f"a mold cannot do anything with {message!r}")


def _spawn(
    order: Spawn, child_channel: Channel, own_channel: Channel, blueprint: Blueprint, application: Application | None
) -> None:
    """Fork twice: the process in between ends at once, so that its child becomes one of the master (a child subreaper),
    which alone is to reap it."""
    try:
        between = fork()
    except OSError as error:
        child_channel.send(Failed(f"no process can be made: {error.strerror}"))
        child_channel.close()
        return
    if between:
        child_channel.close()
        os.waitpid(between, 0)
        return
    # Hazard 16: the process in between does nothing else than to fork and to be gone. Signals are blocked all the time.
    try:
        if os.fork():
            os._exit(0)
    except OSError as error:
        child_channel.send(Failed(f"no process can be made: {error.strerror}"))
        os._exit(1)
    # Hazard 7: the new process must not hold the mold's end: the mold ends when it, and nobody else, is at its end of file.
    own_channel.abandon()
    if order.role is Role.MOLD:
        run_mold(child_channel, blueprint, preload=True)
    from starman.process.worker import run_worker

    run_worker(child_channel, order.slot, blueprint, application)
