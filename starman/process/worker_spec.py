"""The worker spec: what molds and workers need from the master. They inherit it through the fork.

Imports the serving side only inside functions that run in a mold or a worker: the master holds the spec, too.
"""

from __future__ import annotations

from starman import log
from starman.config.working_directory import WorkingDirectory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn, Protocol

    from starman.config.settings import Settings
    from starman.process.channel import Channel
    from starman.process.host.control_socket import ControlSocket
    from starman.process.host.listeners import Listener
    from starman.process.scoreboard import Scoreboard
    from starman.process.watching.reports import LoadedFiles, ReportPipe
    from starman.serving.monitor import Monitor
    from starman.wsgi.call import Application

    class Serving(Protocol):
        """What a worker runs. Its event loop calls all methods."""

        async def run(self, started: Callable[[], None]) -> None:
            """Serve. Calls `started` when connections are accepted; returns when a drain has finished."""

        @property
        def requests(self) -> int:
            """How many requests are in flight. A signal handler may call it, too."""

        def drain(self) -> None:
            """Finish the requests in flight, within graceful_timeout, then have `run` return. Idempotent."""

        def abort(self) -> None:
            """Have `run` return now."""

        def abandon(self) -> tuple[list[int], list[int]]:
            """See `Service.abandon`."""

        def trace(self, filters: str, fds: list[int]) -> None:
            """See `Service.trace`."""

        def reopen_logs(self, done: Callable[[], None]) -> None:
            """Reopen the log files by their paths. Calls `done` when no more lines go to the old files."""

    class MakeService(Protocol):
        """The class of the service, as a mold and a worker call it."""

        def rehearse(self, settings: Settings) -> None:
            """Serve without clients for a moment, in a mold, so that workers share the memory. Raises any error."""

        def __call__(
            self,
            application: Application,
            settings: Settings,
            listeners: Sequence[Listener],
            *,
            multiprocess: bool,
            monitor: Monitor,
        ) -> Serving: ...

    class RunObserver(Protocol):
        """See `Program`."""

        def __call__(self, channel: Channel, spec: WorkerSpec, fds: Sequence[int]) -> NoReturn: ...


class Program:
    """What is served: functions of the layers above, which this folder must not import.

    load: imports the module of the setting `hooks`, and the application that the settings name, in a mold or worker;
    raises StarmanError. load_hooks: imports only the module of the setting `hooks`; raises StarmanError. application:
    the callable when the calling program has passed one; `load` is not called then. describe: what is served, in a few
    words, for titles ("app:app"). reread: reads the settings again from their sources, in a child; raises
    SettingError. None: the settings stay. working_directory: the directories in which the server was started and
    works. variables: environment variables that were removed from this process, for the program that an upgrade
    executes. notes: warnings for the error log, from before it was opened. failed_status: the exit status of the
    server if a worker of its first start cannot start because of this exception. run_observer: runs the observer in a
    fresh fork, given its channel and the descriptors of the control socket and the scoreboard; never returns.
    """

    __slots__ = (
        *("application", "describe", "failed_status", "load", "load_hooks", "notes", "reread"),
        *("run_observer", "variables", "working_directory"),
    )

    run_observer: RunObserver

    def __init__(
        self,
        load: Callable[[Settings], Application],
        application: Application | None = None,
        describe: Callable[[Settings], str] = lambda _: "",
        reread: Callable[[], Settings] | None = None,
        load_hooks: Callable[[Settings], None] = lambda _: None,
    ) -> None:
        self.load = load
        self.load_hooks = load_hooks
        self.application = application
        self.describe = describe
        self.reread = reread
        self.working_directory = WorkingDirectory(".")
        self.variables: dict[str, str] = {}
        self.notes: tuple[str, ...] = ()
        self.failed_status: Callable[[BaseException], int] = lambda _: 1


class WorkerSpec:
    """What molds and workers are made from.

    settings: in the master and its pristine molds, the settings of the start. A restart does not change them: the
    supervisor's terms have the settings in use. In a worker, and in a mold that loads the application, the settings of
    its generation. import_service: imports what a worker needs and returns the class of the service
    (`worker.service_import`). scoreboard: the master's, set when it runs. reports: leads to the process that watches
    files; None without `reload`. control: the control socket, which only the master and the observer have; None: there
    is none. admin: the listeners of the admin HTTP (`admin_listen`), which only the master and the observer have open.
    """

    __slots__ = (
        *("_encoded_settings", "admin", "control", "import_service", "listeners", "program", "reports", "scoreboard"),
        "settings",
    )

    scoreboard: Scoreboard

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        program: Program,
        import_service: Callable[[], MakeService],
        admin: Sequence[Listener] = (),
    ) -> None:
        self.settings = settings
        self.listeners = listeners
        self.program = program
        self.import_service = import_service
        self.reports: ReportPipe | None = None
        self.control: ControlSocket | None = None
        self.admin = admin
        # The argument of `with_settings` that this copy was made with; None: it is no such copy.
        self._encoded_settings: str | None = None

    @property
    def application(self) -> Application | None:
        """The callable that the calling program has passed; None: molds or workers load the application."""
        return self.program.application

    def load_application(self) -> Application:
        """Import the application, in a mold or worker. Raises StarmanError."""
        return self.program.load(self.settings)

    def load_hooks(self) -> None:
        """Import the module of the setting `hooks`, if there is one. Raises StarmanError."""
        self.program.load_hooks(self.settings)

    def loaded_files(self) -> LoadedFiles | None:
        """With `reload`, what reports the files that this process loads from now on; else None."""
        if self.reports is None:
            return None
        from starman.process.watching.reports import LoadedFiles

        return LoadedFiles(self.reports)

    def with_settings(self, settings: str) -> WorkerSpec:
        """The spec with these settings, as `config.revision` encodes them; "": with its own. All paths become
        absolute. The error log of this process follows the settings. A spec that was made with the same text is
        returned itself.

        Call it in a process that runs the application, before the application is loaded.
        """
        if settings == self._encoded_settings:  # in a worker whose mold has loaded the application
            return self
        from starman.config.revision import decode_settings

        chosen = decode_settings(settings) if settings else self.settings
        located = chosen.with_absolute_paths(self.program.working_directory.absolute)
        log.configure(located.log_level, located.log_format)
        revised = WorkerSpec(located, self.listeners, self.program, self.import_service, self.admin)
        revised._encoded_settings = settings
        revised.scoreboard, revised.reports = self.scoreboard, self.reports
        return revised

    def warm_up(self, application: Application) -> None:
        """Have `application` answer the warm-up requests of the settings. Raises WarmUpError."""
        if self.settings.warm_up:
            from starman.serving.warmup import warm_up

            warm_up(application, self.settings)

    def set_title(self, role: str) -> None:
        """Show `starman ROLE NAME` as the title of this process, unless the settings forbid it. NAME: `proc_name`,
        else what is served."""
        if not self.settings.disable_proctitle:
            from starman.process.proctitle import set_title as show_title

            name = self.settings.proc_name or self.program.describe(self.settings)
            show_title(f"starman {role} {name}".rstrip())
