"""Starts a server: combines settings, listeners, processes and the service. `run` and `serve` embed it in a program.

The master imports this module, so large modules are imported where they are used: in the mold, in a worker, or in the
caller's event loop.
"""

from __future__ import annotations

import os
from functools import partial

from starman import application_forks, log, standard_streams
from starman.application_environment import apply_variables
from starman.config import service_links
from starman.config.working_directory import WorkingDirectory, started_in
from starman.errors import SettingError, StartError
from starman.log.in_flight import counted
from starman.observer import run_observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from types import EllipsisType

    from starman.config.settings import Settings
    from starman.process.handover import Handover
    from starman.process.host.inherited import InheritedSockets
    from starman.process.host.listeners import Listener
    from starman.process.host.privileges import Account
    from starman.process.status import Observers
    from starman.process.worker_spec import Program
    from starman.wsgi.call import Application


def run(app: Application | str | EllipsisType = ..., **settings: object) -> None:
    """Serve `app` from worker processes until a signal ends it; the calling process becomes the master. Main thread
    only.

    `app` is a WSGI application, or a string as on the command line ("module:app", "dir/file.py:app"). Without it, the
    `app` or `eval` of another source counts, else the application of the working directory. `settings` are the names
    of docs/settings.md (`workers=8, listen=":8000"`); others come from STARMAN_* variables and the settings file, as
    for `starman-uv`.

    A callable is already loaded in the calling process: workers share it, and SIGHUP replaces workers but not its
    code. Pass a string to load new code at each restart. Signal handlers of the caller are restored at the end.

    Raises SettingError for a wrong setting, LoadError for a callable that is not a WSGI application, ListenError if a
    listener cannot be opened, StartError if no worker starts or if this is not the main thread.
    """
    import threading

    from starman.config.sources import from_keywords
    from starman.embedding import refuse_reload_of_callable, refuse_running_loop
    from starman.loading import describe
    from starman.process.worker_spec import Program

    if threading.current_thread() is not threading.main_thread():
        raise StartError("starman.run handles signals, which only the main thread can do: call it in the main thread")
    refuse_running_loop()
    errors = standard_streams.open_missing()
    directory = started_in(os.environ)

    def read() -> Settings:
        return from_keywords(app, settings, os.environ, directory)

    chosen = read()
    application = app if callable(app) else None
    if application is not None:
        refuse_reload_of_callable(chosen)
    mounted = None if application is None else _mounted(application, chosen, "run(app)")
    opened = log.open_own_descriptor(errors)
    try:
        _run(chosen, Program(load, mounted, lambda current: describe(current, application), read, _load_hooks), embedded=True)
    finally:
        log.finish()
        if opened:
            log.close_own_descriptor()


def run_master(
    settings: Settings,
    reread: Callable[[], Settings],
    handover: Handover | None = None,
    notes: Iterable[str] = (),
    load_by: Callable[[Settings], Application] | None = None,
    failed_status: Callable[[BaseException], int] = lambda _: 1,
) -> int:
    """Serve what `settings` name, as `starman-uv` does; `reread` reads them again from the same sources, for a
    restart.

    handover: the state that the previous program of this process has left at an upgrade (USR2). notes: warnings for
    the error log. load_by: loads the application in place of `load`. failed_status: see `Program`. Returns the exit
    status; raises StarmanError when the start fails.
    """
    from starman.loading import describe
    from starman.process.forking import block_early_signals
    from starman.process.worker_spec import Program

    block_early_signals()
    program = Program(load_by or load, None, describe, reread, _load_hooks)
    program.notes, program.failed_status = tuple(notes), failed_status
    return _run(settings, program, embedded=False) if handover is None else _take_over(settings, program, handover)


async def serve(app: Application | str | EllipsisType = ..., **settings: object) -> None:
    """Serve `app` in the running event loop, as one worker, without forks and signal handlers. On asyncio or uvloop.

    `app` and `settings` as for `run`; `workers`, `preload_app` and other settings of processes have no effect. The
    application runs in `threads` threads. Cancel this coroutine to stop: it accepts no more connections, gives
    requests in flight graceful_timeout to finish, and raises the cancellation again. After Ctrl-C, which cancels the
    main task of `asyncio.run`, it returns.

    Raises SettingError, LoadError, ListenError, and StartError when a thread cannot be started.
    """
    from starman.config.sources import from_keywords
    from starman.embedding import error_log, refuse_reload_in_loop, serve_until_cancelled
    from starman.process.host.inherited import InheritedSockets
    from starman.process.host.listeners import open_listeners
    from starman.process.worker.server_resources import ServerResources
    from starman.serving.service import Service

    errors = standard_streams.open_missing()
    working_directory = WorkingDirectory(started_in(os.environ))
    chosen = from_keywords(app, settings, os.environ, working_directory.start).with_absolute_paths(working_directory.absolute)
    log.configure(chosen.log_level, chosen.log_format)
    refuse_reload_in_loop(chosen)
    with error_log(chosen.error_log, errors):
        inherited_sockets = InheritedSockets.from_environ(os.environ)
        given = [name for name in ("capture_output", "log_config") if chosen.value(name)]
        ignored = [f"{chosen.source(name)} has no effect in starman.serve" for name in given]
        _log_notes(chosen, [*ignored, *inherited_sockets.warnings])
        application = _mounted(app, chosen, "serve(app)") if callable(app) else load(chosen)
        listeners = open_listeners(inherited_sockets.addresses(chosen), chosen)
        resources = ServerResources(listeners, signals=False)

        def close_listeners() -> None:
            for listener in listeners:
                listener.close()

        try:
            service = Service(application, chosen, listeners, multiprocess=False, owns_loop=False)
            resources.service = service
            started = partial(_announce, chosen, listeners)
            await serve_until_cancelled(service, started, close_listeners, chosen.graceful_timeout)
        finally:
            resources.release()
            close_listeners()


def _run(settings: Settings, program: Program, *, embedded: bool) -> int:
    """Run the master until a signal ends it. `embedded`: in another program. Raises StarmanError if the start
    fails."""
    from starman.process.host.inherited import InheritedSockets
    from starman.process.host.privileges import Account
    from starman.process.host.systemd import SystemdNotifier
    from starman.process.status import Observers
    from starman.process.watching.engines import check_reload_engine

    log.configure(settings.log_level, settings.log_format)
    # Both before the daemon forks, because the variables of systemd name the process that systemd has started.
    inherited_sockets = InheritedSockets.from_environ(os.environ)
    notifier = SystemdNotifier.from_environ(os.environ)
    program.variables = notifier.variables
    inherited_sockets.check(settings)
    check_reload_engine(settings)
    account = Account.of(settings)
    program.working_directory = enter_directory(settings)
    program.run_observer = run_observer
    if not settings.daemonize:
        return _be_master(settings, program, inherited_sockets, account, Observers([notifier]), embedded=embedded)

    from starman.process.host.daemon import daemonize

    if settings.error_log is None:
        log.warning(f"{settings.source('daemonize')}: without error_log, later errors are not logged; set error_log to a file")
    daemon = daemonize()
    try:
        return _be_master(settings, program, inherited_sockets, account, Observers([notifier, daemon]), embedded=embedded)
    except BaseException as error:
        daemon.failed(error)
        raise


def _take_over(settings: Settings, program: Program, handover: Handover) -> int:
    """Run the master in the process of the previous program, with its user, listeners and error log."""
    from starman.process.host.errorlog import ErrorLog, log_process_of
    from starman.process.host.listeners import take_over_listeners
    from starman.process.host.pidfile import PidFile
    from starman.process.host.systemd import SystemdNotifier
    from starman.process.master.master import Master
    from starman.process.status import Observers
    from starman.process.worker.shared_imports import import_service
    from starman.process.worker_spec import WorkerSpec

    log.configure(settings.log_level, settings.log_format)
    notifier = SystemdNotifier.from_environ(os.environ)
    program.variables = notifier.variables
    program.working_directory = enter_directory(settings)
    program.run_observer = run_observer
    directory = program.working_directory.base
    error_log = ErrorLog(settings.error_log, opened=True, directory=directory, process=log_process_of(settings, directory))
    with PidFile(settings.pid, claimed=True), error_log:
        listeners, admin = take_over_listeners(handover.listeners), take_over_listeners(handover.admin)
        spec = WorkerSpec(settings, listeners, program, import_service, admin)
        return Master(spec, error_log, handover).run(observers=Observers([notifier]))


def enter_directory(settings: Settings) -> WorkingDirectory:
    """Set the umask and change to `chdir`, before relative paths are used and files are created. Returns both
    directories.

    Raises SettingError; StartError when the working directory has been removed.
    """
    start = started_in(os.environ)
    if settings.umask is not None:
        os.umask(settings.umask)
    if settings.chdir is not None:
        try:
            os.chdir(settings.chdir)
        except OSError as error:
            raise SettingError(f"{settings.source('chdir')}: cannot change to {settings.chdir}: {error.strerror}") from None
    return WorkingDirectory(start, settings.chdir)


def try_settings(settings: Settings, *, entered: bool = False, load_by: Callable[[Settings], Application] | None = None) -> None:
    """Test whether a worker with these settings could serve: load the application, read certificates and log_config,
    warm up. Call in a separate child, because an application may start threads that never end. `entered`:
    `enter_directory` was called, and paths are absolute. `load_by`: loads the application in place of `load`. Raises
    StarmanError, and exceptions of starman's own imports."""
    from starman.process.worker.server_resources import ServerResources
    from starman.process.worker.shared_imports import import_service

    import_service()
    if not entered:
        settings = settings.with_absolute_paths(enter_directory(settings).absolute)
    # A child that the application forks must not go on with the trial.
    ServerResources([], signals=False)
    application = (load_by or load)(settings)
    if any(address.secure for address in settings.addresses()):
        from starman.serving.tls.context import server_context

        server_context(settings)
    if settings.log_config is not None:
        from starman.process.logging_config import check_log_config

        check_log_config(settings.log_config)
    if settings.warm_up:
        from starman.serving.warmup import warm_up

        warm_up(application, settings)


def _be_master(
    settings: Settings,
    program: Program,
    inherited_sockets: InheritedSockets,
    account: Account | None,
    observers: Observers,
    *,
    embedded: bool,
) -> int:
    """Create the pid file, listeners and logs as root, change to the user, and run the master."""
    from starman.process.host.admin import open_admin_listeners, read_admin_token
    from starman.process.host.errorlog import ErrorLog, log_process_of
    from starman.process.host.listeners import open_listeners
    from starman.process.host.pidfile import PidFile
    from starman.process.host.privileges import create_logs
    from starman.process.master.master import Master
    from starman.process.worker.shared_imports import import_service
    from starman.process.worker_spec import WorkerSpec

    owner = (-1, -1) if account is None else account.owner
    with PidFile(settings.pid):
        listeners = open_listeners(inherited_sockets.addresses(settings), settings, owner)
        admin: list[Listener] = []
        try:
            admin += open_admin_listeners(settings, owner, beside=listeners)
            # As root: the user may not be allowed to look at the directories above the pid file.
            warnings = [*program.notes, *inherited_sockets.warnings, *_pid_file_warnings(settings, account)]
            if account is not None:
                create_logs(settings, account)
                account.drop_privileges()
            read_admin_token(settings, program.working_directory.absolute)
            directory = program.working_directory.base
            process = log_process_of(settings, directory)
            with ErrorLog(settings.error_log, directory=directory, process=process) as error_log:
                _log_notes(settings, warnings)
                if inherited_sockets.fds:
                    log.info(inherited_sockets.describe([listener.url for listener in listeners]))
                spec = WorkerSpec(settings, listeners, program, import_service, admin)
                return Master(spec, error_log).run(embedded=embedded, observers=observers)
        finally:
            for listener in (*listeners, *admin):
                listener.close()


def _log_notes(settings: Settings, warnings: Iterable[str]) -> None:
    """Log `warnings`, those of the settings, and findings about the environment of the process."""
    from starman.process.host.surroundings import warnings_about_surroundings

    for warning in (*settings.warnings(), *warnings, *warnings_about_surroundings(settings)):
        log.warning(warning)
    if (ignored := service_links.notice(os.environ)) is not None:
        log.info(ignored)


def _pid_file_warnings(settings: Settings, account: Account | None) -> list[str]:
    """A warning if the user of the server could replace the pid file, although root owns the file."""
    if settings.pid is None or account is None or not account.uid:
        return []
    from starman.process.host.pidfile import replaceable_in

    directory = replaceable_in(settings.pid, account.uid, account.gids)
    if directory is None:
        return []
    return [
        f"{settings.source('pid')}: user {account.name or account.uid} may write in {directory}, and so could replace the pid "
        "file: do not signal the process id in it as root, or use a directory where only root may write"
    ]


def _announce(settings: Settings, listeners: Sequence[Listener]) -> None:
    from starman.version import VERSION

    threads = counted(settings.threads, "thread")
    log.info(f"starman {VERSION} ready: 1 worker × {threads} on {', '.join(listener.url for listener in listeners)}")  # noqa: RUF001


def load(settings: Settings) -> Application:
    """Import the application: in the mold, a worker, or the process that embeds the server. Raises StarmanError."""
    from starman.loading import load_application

    apply_variables(settings)
    try:
        application = load_application(settings)
    except BaseException as error:
        # A module that forks may end its child by sys.exit, which is the cause of the LoadError here.
        application_forks.end_child(error.__cause__ or error)
        raise
    application_forks.end_child()
    return application


def _load_hooks(settings: Settings) -> None:
    """Import the module of the setting `hooks`: in the hook process, or in a mold. Raises LoadError."""
    from starman.loading import load_hooks

    apply_variables(settings)
    load_hooks(settings)


def _mounted(application: Application, settings: Settings, what: str) -> Application:
    """Check and mount a callable of the calling program. `what` names it in errors. Raises LoadError."""
    from starman.application_check import check_application
    from starman.wsgi.mount import mount

    apply_variables(settings)
    check_application(application, what)
    return mount(application, settings.path)
