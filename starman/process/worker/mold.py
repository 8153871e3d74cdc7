"""The mold: a process that has imported what every worker needs, and forks workers (or another mold) on command.

It has no loop and no thread when it forks, for both make a fork unsafe. Never imports asyncio by itself; the spec's imports
do.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal

from starman import application_forks, hooks, log
from starman.errors import HookError, StarmanError
from starman.log.tracebacks import formatted, named
from starman.process import parent_death
from starman.process.channel import Channel
from starman.process.exiting import end_unserved
from starman.process.forking import adopt_error_log, flush, fork, ignore_failing_writes, show_stacks, take_signals
from starman.process.long_text import Assembly
from starman.process.messages import Failed, Loaded, Part, Reopen, Reopened, Role, Spawn, Spawned
from starman.process.worker.copy_on_write import settle
from starman.process.worker.forksafety import fork_hazards, open_sockets, socket_names
from starman.process.worker.server_resources import ServerResources

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from starman.process.messages import Message
    from starman.process.spec import MakeService, WorkerSpec
    from starman.wsgi.call import Application

# How often (seconds) lines that the error log did not take at once are tried again.
_RETRY_MILLISECONDS = 200


def run_mold(channel: Channel, spec: WorkerSpec, *, preload: bool) -> NoReturn:
    """Be a mold, from a fresh fork with its signals blocked until the master closes its end of `channel`.

    With `preload` the application is loaded before the first fork. Never returns. Main thread only.
    """
    status = 1
    prefix = "the mold failed: "
    try:
        # Said before anything can go wrong or take long.
        channel.announce()
        take_signals(stop_ends=False)
        show_stacks(channel.stacks)
        spec.title("mold")
        mold = _Mold(channel, spec, preload=preload)
        channel.send(Loaded())
        prefix = ""  # the master says from now on that it has failed
        mold.run_orders()
        status = 0
    except StarmanError as error:
        channel.send(Failed(str(error), error.details))
    except BaseException as error:  # SystemExit too: an application's module may call sys.exit
        channel.send(Failed(f"{prefix}{named(error)}", formatted(error)))
    finally:
        # Hazard 16: a mold is a copy of the process that it came from; what that would do at its end is not its business.
        if preload:
            end_unserved(status)
        flush()
        log.finish()
        os._exit(status)


def become_mold(channel: Channel, spec: WorkerSpec, abandon: Callable[[], None]) -> NoReturn:
    """Be the pristine mold, in a fresh fork of the master, which `abandon`s what it has inherited of it."""
    try:
        abandon()
        # What the calling program registered is to happen once, at its own end, not at each worker's.
        import atexit

        atexit._clear()
        run_mold(channel, spec, preload=False)
    except BaseException as error:
        log.error(f"the mold failed\n{formatted(error)}")
    finally:
        log.finish()
        os._exit(1)


class _Mold:
    """A mold's life: it loads, settles, then forks on command.

    application: None when the workers load it. known: the sockets that do not belong to the application. master: the master's
    process id.
    """

    __slots__ = ("_application", "_channel", "_checked", "_known", "_master", "_spec")

    def __init__(self, channel: Channel, spec: WorkerSpec, *, preload: bool) -> None:
        self._channel = channel
        self._spec = spec
        self._application: Application | None = spec.application
        self._checked = False
        self._master = os.getppid()
        make_service = spec.import_service()
        self._known = open_sockets() if preload else _own_sockets(channel, spec)
        # They stay this process's as long as it lives.
        ServerResources(spec.listeners, channel)
        if preload:
            self._application = spec.load_application()
        else:
            _rehearse(make_service, spec.settings.threads)
        if self._application is not None:
            spec.warm_up(self._application)
            ignore_failing_writes()
        settle()

    def run_orders(self) -> None:
        """Fork what the master asks for, until it closes its end."""
        assembly = Assembly()
        while (received := self._next_order()) is not None:
            message, fds = received
            if isinstance(message, Part):
                assembly.add(message)
            elif isinstance(message, Spawn) and fds:
                message.settings = assembly.resolve(message.settings)
                channel, rest = Channel.of_descriptors(fds)
                self._fork_child(message, channel, rest[0] if rest else -1)
                for fd in rest:
                    os.close(fd)
            elif isinstance(message, Reopen):
                adopt_error_log(fds)
                self._channel.send(Reopened())
            else:
                log.error(f"a mold cannot do anything with {message!r}")
                for fd in fds:
                    os.close(fd)

    def _next_order(self) -> tuple[Message, list[int]] | None:
        """Wait for the next order, or the end of file (None); meanwhile write what the error log has not taken yet."""
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        while log.pending() and not poll.poll(_RETRY_MILLISECONDS):
            log.retry()
        return self._channel.receive()

    def _fork_child(self, order: Spawn, child_channel: Channel, scoreboard_fd: int) -> None:
        """Fork twice: the process in between ends at once, so that its child becomes one of the master (a child subreaper),
        which alone is to reap it."""
        try:
            if self._application is not None:
                hooks.run_before_fork()
                self._warn_of_hazards(child_channel)
            between = fork()
        except (OSError, HookError) as error:
            child_channel.send(_failed(error))
            child_channel.close()
            return
        if between:
            child_channel.close()
            # Its status says nothing. ECHILD: the application ignores SIGCHLD, or waits for every child of its process.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(between, 0)
            return
        try:
            self._run_intermediate(order, child_channel, scoreboard_fd)
        except BaseException as error:
            child_channel.send(_failed(error))
        finally:
            os._exit(1)

    def _run_intermediate(self, order: Spawn, child_channel: Channel, scoreboard_fd: int) -> NoReturn:
        """Hazard 16: the process in between only forks and exits. Signals are blocked all the time."""
        parent_death.tie(self._master)
        child = application_forks.fork()
        if child:
            # Sent here, because the application may block the child at the fork, and the master needs its process id to kill it.
            if not child_channel.send(Spawned(child)):
                os.kill(child, signal.SIGKILL)  # it was cut before it existed
            os._exit(0)
        # Hazard 7: the new process must not hold the mold's end: the mold ends when it, and nobody else, is at its end of file.
        show_stacks(child_channel.stacks)  # before the mold's descriptor for them is closed
        self._channel.abandon()
        if self._application is None:
            self._spec.program.workdir.enter()
        spec = self._spec.revised(order.settings)
        if order.role is Role.MOLD:
            run_mold(child_channel, spec, preload=True)
        from starman.process.worker.worker import run_worker

        place = None
        try:
            place = spec.scoreboard.place(order.place, scoreboard_fd)
        except OSError as error:
            log.warning(f"worker {order.slot} has no place on the scoreboard, so its loop is not watched: {error.strerror}")
        if scoreboard_fd >= 0:
            os.close(scoreboard_fd)
        run_worker(child_channel, order.slot, place, spec, self._application)

    def _warn_of_hazards(self, child_channel: Channel) -> None:
        """Before the first fork, when the application's hooks have done what they do: warn of what a worker would inherit."""
        if not self._checked:
            self._checked = True
            for line in fork_hazards(self._known | socket_names([child_channel.fileno()])):
                log.warning(line)


def _own_sockets(channel: Channel, spec: WorkerSpec) -> frozenset[str]:
    """Of a mold that has not loaded the application itself: all others are the calling program's, and shared with workers."""
    return socket_names([channel.fileno(), *(listener.socket.fileno() for listener in spec.listeners)])


def _rehearse(make_service: MakeService, threads: int) -> None:
    """Raises RuntimeError if threads of it are left: a lock that one holds would be held in each worker for ever."""
    import threading

    try:
        make_service.rehearse(threads)
    except Exception as error:
        # The workers are larger without, and serve as well.
        log.warning(f"the rehearsal failed, so each worker takes about 1 MB more\n{formatted(error)}")
    if threading.active_count() > 1:
        raise RuntimeError("threads of the rehearsal have not ended, and a process with threads is not to be forked")


def _failed(error: BaseException) -> Failed:
    """What the master is told when a member could not be forked."""
    if isinstance(error, StarmanError):
        return Failed(str(error), error.details)
    if isinstance(error, OSError):
        return Failed(f"no process can be made: {error.strerror}")
    return Failed(named(error), formatted(error))
