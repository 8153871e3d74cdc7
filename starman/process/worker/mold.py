"""The mold: a process that has imported all that a worker needs, and forks workers (or another mold) for the master.

It has no event loop and no other thread when it forks, because either makes a fork unsafe. This module must not import
asyncio; the imports of `spec.import_service` do.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal

from starman import application_forks, log
from starman.errors import HookError, StarmanError
from starman.log.tracebacks import exception_line, format_exception
from starman.process import parent_death
from starman.process.channel import Channel
from starman.process.exiting import exit_unserved
from starman.process.forking import (
    flush_streams,
    fork,
    ignore_failing_writes,
    install_handlers,
    replace_error_log,
)
from starman.process.long_messages import TextAssembly
from starman.process.messages import Failed, Loaded, Part, Reopen, Reopened, Role, Spawn, Spawned
from starman.process.worker import output_capture
from starman.process.worker.copy_on_write import settle_memory
from starman.process.worker.forksafety import fork_hazards, open_sockets, socket_names
from starman.process.worker.server_resources import ServerResources
from starman.process.worker.shared_imports import import_features
from starman.process.worker.stack_dumps import enable_stack_dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn

    from starman.config.settings import Settings
    from starman.process.message_base import Message
    from starman.process.worker_spec import MakeService, WorkerSpec
    from starman.wsgi.call import Application

# How often (milliseconds) to try again to write lines that the error log did not take at once.
_RETRY_MILLISECONDS = 200


def run_mold(channel: Channel, spec: WorkerSpec, *, preload: bool) -> NoReturn:
    """Run a mold until the master closes its end of `channel`. Call it in a fresh fork with all signals blocked.

    `preload`: load the application before the first fork. Never returns. Main thread only.
    """
    status = 1
    prefix = "the mold failed: "
    try:
        # First of all, before anything can fail or take long.
        channel.send_spawned()
        enable_stack_dumps(channel.stacks)  # until then, the stacks would be logged as the master's
        install_handlers(stop_ends=False)
        spec.set_title("mold")
        mold = _Mold(channel, spec, preload=preload)
        channel.send(Loaded())
        prefix = ""  # from now on, the master's own line says that the mold has failed
        mold.run_orders()
        status = 0
    except StarmanError as error:
        channel.send(Failed(str(error), error.details))
    except BaseException as error:  # SystemExit too: an application's module may call sys.exit
        channel.send(Failed(f"{prefix}{exception_line(error)}", format_exception(error)))
    finally:
        # Hazard 16: a mold is a copy of the process that forked it, and must not run what that process runs at its
        # end.
        if preload:
            exit_unserved(status)
        flush_streams()
        log.finish()
        os._exit(status)


def become_mold(channel: Channel, spec: WorkerSpec, abandon: Callable[[], None]) -> NoReturn:
    """Run the pristine mold in a fresh fork of the master. `abandon` closes what the fork has inherited of the master.

    A pristine mold has not loaded the application. Never returns.
    """
    try:
        abandon()
        # Functions that the calling program registered run once, at its own end, and not at the end of each worker.
        import atexit

        atexit._clear()
        run_mold(channel, spec, preload=False)
    except BaseException as error:
        log.error(f"the mold failed\n{format_exception(error)}")
    finally:
        log.finish()
        os._exit(1)


class _Mold:
    """Loads what workers share, prepares the memory for forks, then forks on orders from the master.

    application: None if the workers load it. known: the sockets that do not belong to the application. master: the
    master's process id.
    """

    __slots__ = ("_application", "_channel", "_checked", "_known", "_master", "_spec")

    def __init__(self, channel: Channel, spec: WorkerSpec, *, preload: bool) -> None:
        self._channel = channel
        self._spec = spec
        self._application: Application | None = spec.application
        self._checked = False
        self._master = os.getppid()
        make_service = spec.import_service()
        import_features(spec.settings)
        self._known = open_sockets() if preload else _own_sockets(channel, spec)
        # Registered as long as the process lives.
        ServerResources(spec.listeners, channel)
        if preload:
            self._application = _load(spec)
        else:
            _rehearse(make_service, spec.settings)
            if self._application is not None:  # the calling program has passed the application
                spec.load_hooks()
                spec.warm_up(self._application)
        if self._application is not None:
            _report_misplaced_hooks(channel)
            ignore_failing_writes()
        settle_memory(immortal=not spec.settings.disable_immortal_objects)

    def run_orders(self) -> None:
        """Carry out the master's orders until it closes its end of the channel."""
        assembly = TextAssembly()
        while (received := self._next_order()) is not None:
            message, fds = received
            if isinstance(message, Part):
                assembly.add_part(message)
            elif isinstance(message, Spawn) and fds:
                message.settings = assembly.resolve_text(message.settings)
                channel, other_fds = Channel.of_descriptors(fds)
                self._fork_child(message, channel, other_fds)
                for fd in other_fds:
                    os.close(fd)
            elif isinstance(message, Reopen):
                replace_error_log(fds)
                self._channel.send(Reopened())
            else:
                log.error(f"the mold (the process that forks workers) ignores an unexpected message: {message!r}")
                for fd in fds:
                    os.close(fd)

    def _next_order(self) -> tuple[Message, list[int]] | None:
        """Wait for the next order; None at the end of file. Meanwhile, write lines that the error log has not taken
        yet."""
        poll = select.poll()
        poll.register(self._channel.fileno(), select.POLLIN)
        while log.pending() and not poll.poll(_RETRY_MILLISECONDS):
            log.write_pending()
        return self._channel.receive_message()

    def _fork_child(self, order: Spawn, child_channel: Channel, fds: Sequence[int]) -> None:
        """Fork twice. The intermediate process exits at once, so the kernel makes its child a child of the master (a
        child subreaper), and only the master reaps it."""
        try:
            if self._application is not None and order.role is Role.WORKER:
                # Imported here, not at the top: the master imports this module, and runs no hooks.
                from starman.hooks import run_before_fork

                run_before_fork(order.slot)
                self._warn_of_hazards(child_channel)
            between = fork()
        except (OSError, HookError) as error:
            child_channel.send(_failed(error))
            child_channel.close()
            return
        if between:
            child_channel.close()
            # The status does not matter. ECHILD: the application ignores SIGCHLD, or waits for every child of its
            # process.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(between, 0)
            return
        try:
            self._run_intermediate(order, child_channel, fds)
        except BaseException as error:
            child_channel.send(_failed(error))
        finally:
            os._exit(1)

    def _run_intermediate(self, order: Spawn, child_channel: Channel, fds: Sequence[int]) -> NoReturn:
        """Hazard 16: the intermediate process only forks and exits. All signals are blocked in it."""
        parent_death.tie_next_fork(self._master)
        child = application_forks.fork()
        if child:
            # Sent from here, because a hook of the application may block the child right after the fork, and the
            # master needs the process id to kill it.
            if not child_channel.send(Spawned(child)):
                os.kill(child, signal.SIGKILL)  # the master has closed the channel already
            os._exit(0)
        # Hazard 7: close the mold's own channel, or the master would get no end of file when the mold dies.
        enable_stack_dumps(child_channel.stacks)  # before the mold's descriptor for stacks is closed
        self._channel.abandon()
        if self._application is None:
            self._spec.program.working_directory.enter()
        spec = self._spec.with_settings(order.settings)
        output_capture.redirect(child_channel)
        if order.role is Role.MOLD:
            run_mold(child_channel, spec, preload=True)
        if order.role is Role.OBSERVER:
            spec.program.run_observer(child_channel, spec, fds)
        if order.role is not Role.WORKER:
            from starman.process.worker.hook_process import run_hook_process

            run_hook_process(child_channel, spec, starting=order.role is Role.STARTING_HOOKS)
        from starman.hooks import set_worker
        from starman.process.worker.worker import run_worker

        page = None
        scoreboard_fd = fds[0] if fds else -1
        try:
            page = spec.scoreboard.map_page(order.page, scoreboard_fd)
        except OSError as error:
            log.warning(f"the watchdog cannot check worker {order.slot}, which has no page of the scoreboard: {error.strerror}")
        if scoreboard_fd >= 0:
            os.close(scoreboard_fd)
        set_worker(order.slot, order.page)
        run_worker(child_channel, order.slot, page, spec, self._application)

    def _warn_of_hazards(self, child_channel: Channel) -> None:
        """Before the first fork, after the application's before_fork hooks: log what workers would inherit and should
        not."""
        if not self._checked:
            self._checked = True
            for line in fork_hazards(self._known | socket_names([child_channel.fileno()])):
                log.warning(line)


def _report_misplaced_hooks(channel: Channel) -> None:
    from starman.process.worker.hook_process import report_misplaced_hooks

    report_misplaced_hooks(channel)


def _own_sockets(channel: Channel, spec: WorkerSpec) -> frozenset[str]:
    """The server's sockets, in a mold that has not loaded the application. All other sockets belong to the calling
    program, and workers would share them."""
    return socket_names([channel.fileno(), *(listener.socket.fileno() for listener in spec.listeners)])


def _load(spec: WorkerSpec) -> Application:
    """Load the application and warm it up. Raises StarmanError."""

    def load() -> Application:
        application = spec.load_application()
        spec.warm_up(application)
        return application

    loaded_files = spec.loaded_files()
    if loaded_files is None:
        return load()
    from starman.process.watching.broken_application import load_or_explain

    return load_or_explain(load, loaded_files, spec.settings, logs=True)


def _rehearse(make_service: MakeService, settings: Settings) -> None:
    """Run the rehearsal. Raises RuntimeError if one of its threads is still there: a lock that it holds would stay
    locked in each worker."""
    import threading

    try:
        make_service.rehearse(settings)
    except Exception as error:
        # Workers need more memory without the rehearsal, but serve as well.
        log.warning(
            f"the rehearsal before the first fork failed, so each worker takes about 1 MB more\n{format_exception(error)}"
        )
    if threading.active_count() > 1:
        raise RuntimeError("threads of the rehearsal have not ended, and a process with threads must not be forked")


def _failed(error: BaseException) -> Failed:
    """The message to the master when a worker or mold could not be forked."""
    if isinstance(error, StarmanError):
        return Failed(str(error), error.details)
    if isinstance(error, OSError):
        return Failed(f"cannot create a process: {error.strerror}")
    return Failed(exception_line(error), format_exception(error))
