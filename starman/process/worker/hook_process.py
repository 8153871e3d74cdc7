"""The hook process: imports the module of the setting `hooks`, and runs its hooks at the events that the master sends.

It outlives workers, serves no requests, and never loads the application, unless that module does. Hooks run one after
the other in the main thread; the module may start threads of its own.
"""

from __future__ import annotations

import os
import select
import time

from starman import hooks, log, standard_streams
from starman.errors import StarmanError
from starman.log.tracebacks import exception_line, format_exception
from starman.process.exiting import exit_worker
from starman.process.forking import ignore_failing_writes, install_handlers, replace_error_log
from starman.process.messages import Failed, Handled, Loaded, Notice, Reopen, Reopened, ServerEvent, WorkerEnded, WorkersChanged
from starman.process.worker.server_resources import ServerResources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from starman.process.channel import Channel
    from starman.process.message_base import Message
    from starman.process.worker_spec import WorkerSpec

# How long (seconds) the process may go on after the master has closed the channel: for the hooks of the events that it
# has, then for its exit functions.
EVENTS_SECONDS = 10.0
_EXIT_SECONDS = 5.0


def run_hook_process(channel: Channel, spec: WorkerSpec, *, starting: bool) -> NoReturn:
    """Run the hooks until the master closes its end of `channel`. Call it in a fresh fork with all signals blocked.

    starting: run the `starting` hooks before the process is loaded. Never returns. Main thread only.
    """
    status = 1
    try:
        channel.send_spawned()
        # A stop signal to the whole process group must not end it: the `stopped` hooks come last.
        install_handlers(stop_ends=False)
        spec.set_title("hooks")
        for listener in spec.listeners:
            listener.close()
        ServerResources([], channel)
        if _load(spec, starting=starting) and starting:
            hooks.run_starting()
        standard_streams.restore()
        ignore_failing_writes()
        _limit_life(channel)
        channel.send(Loaded())
        _run_events(channel)
        status = 0
    except StarmanError as error:
        channel.send(Failed(str(error), error.details))
    except BaseException as error:  # SystemExit too: the module may call sys.exit
        channel.send(Failed(exception_line(error), format_exception(error)))
    exit_worker(status, _EXIT_SECONDS)


def _load(spec: WorkerSpec, *, starting: bool) -> bool:
    """Import the module of the setting `hooks`. Return whether it is loaded. With `reload`, a module that cannot be
    loaded is reported to the watcher, and this process runs no hooks until a change replaces it. Raises StarmanError
    otherwise."""
    loaded_files = spec.loaded_files()
    try:
        spec.load_hooks()
    except StarmanError as error:
        if loaded_files is None:
            raise
        hooks.remove_server_hooks()
        loaded_files.report_failure(error, [os.path.abspath(directory) for directory in spec.settings.include])
        lost = " (the starting hooks do not run later: start the server again for them)" if starting else ""
        log.error(f"{error}; no hooks of the server run until its files change{lost}\n{error.details}".rstrip("\n"))
        return False
    if loaded_files is not None:
        loaded_files.report()
    return True


def _run_events(channel: Channel) -> None:
    """Run the hooks of each event, until the end of file of the channel. Events that were sent before the end come
    first."""
    while (received := channel.receive_message()) is not None:
        message, fds = received
        if isinstance(message, Reopen):
            replace_error_log(fds)
            channel.send(Reopened())
        else:
            _run_event(message)
            log.write_pending()
            channel.send(Handled())


def _run_event(event: Message) -> None:
    match event:
        case ServerEvent():
            hooks.run_logged(event.point)
        case WorkersChanged():
            hooks.run_logged("workers_changed", event.old, event.new)
        case WorkerEnded():
            worker = hooks.EndedWorker(event.number, event.pid, event.status, expected=event.expected)
            hooks.run_logged("worker_ended", worker)
            if not worker.expected:
                hooks.run_logged("worker_lost", worker)
        case _:
            log.error(f"the hook process ignores an unexpected message: {event!r}")


def _limit_life(channel: Channel) -> None:
    """End this process EVENTS_SECONDS after the master has closed the channel, if a hook still runs then: after an
    upgrade, no process would end it."""
    import threading

    fd = channel.fileno()

    def wait() -> None:
        poll = select.poll()
        poll.register(fd, 0)  # only POLLHUP
        poll.poll()
        time.sleep(EVENTS_SECONDS)
        log.warning(f"hooks still run {EVENTS_SECONDS:g} s after their hook process was told to end: it ends now")
        log.finish()
        os._exit(1)

    threading.Thread(target=wait, name="starman-hooks-end", daemon=True).start()


def report_misplaced_hooks(channel: Channel) -> None:
    """Have the master warn of hooks that the application has registered, and that the hook process does not have. In a
    mold or worker that has loaded the application."""
    points = hooks.misplaced_points()
    if points:
        channel.send(
            Notice(
                f"hooks at {', '.join(points)} do not run: the application registers them, but they need the hook process; "
                "register them in a module of their own, and name it with --hooks"
            )
        )
