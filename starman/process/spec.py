"""The spec: what the master knows and every process that descends from it needs. It travels by fork.

Imports the serving side only when asked to, in a mold: the master holds the spec too.
"""

from __future__ import annotations

from starman.config.working_directory import Workdir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starman.config.settings import Settings
    from starman.process.host.listeners import Listener
    from starman.process.scoreboard import Scoreboard
    from starman.process.worker.worker import MakeService
    from starman.wsgi.call import Application


def import_service() -> MakeService:
    """Import all that every worker needs, so that a mold has it before it forks; return the class of the service."""
    # What would be imported where it is first used, which is in each worker: by `starman.loading`, by anyio, and by a mold.
    import ast  # noqa: F401
    import importlib.util  # noqa: F401
    import traceback  # noqa: F401

    import anyio._backends._asyncio  # noqa: F401
    import httptools  # noqa: F401
    import uvloop  # noqa: F401

    import starman.process.worker.worker
    import starman.wsgi.mount  # noqa: F401
    from starman.serving.service import Service

    return Service


class Program:
    """What is served: how the process room reaches the rooms above it, which it must not import.

    load: imports the application that settings name, in a mold or a worker; raises StarmanError.
    application: the callable, when the calling program has it already; `load` is not called then.
    describe: what is served, in a few words, for titles ("app:app").
    reread: reads the settings again from where they were read at the start, in a child; raises SettingError. None: they stay.
    workdir: the directories in which the server was started and works. variables: environment variables that were removed from
    this process, for the program that an upgrade executes.
    """

    __slots__ = ("application", "describe", "load", "reread", "variables", "workdir")

    def __init__(
        self,
        load: Callable[[Settings], Application],
        application: Application | None = None,
        describe: Callable[[Settings], str] = lambda _: "",
        reread: Callable[[], Settings] | None = None,
    ) -> None:
        self.load = load
        self.application = application
        self.describe = describe
        self.reread = reread
        self.workdir = Workdir(".")
        self.variables: dict[str, str] = {}


class WorkerSpec:
    """What molds and workers are made from.

    settings: in the master and its pristine molds those of the start, which a restart does not change: what is in use then, the
    supervisor's terms say. In a worker, and a mold that loads the application, those of its generation.
    import_service: see the function of that name. scoreboard: the master's, as soon as it runs.
    """

    __slots__ = ("import_service", "listeners", "program", "scoreboard", "settings")

    scoreboard: Scoreboard

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        program: Program,
        import_service: Callable[[], MakeService] = import_service,
    ) -> None:
        self.settings = settings
        self.listeners = listeners
        self.program = program
        self.import_service = import_service

    @property
    def application(self) -> Application | None:
        """The callable that the calling program has given; None when molds or workers load the application."""
        return self.program.application

    def load_application(self) -> Application:
        """Import the application. Raises StarmanError. In a mold or a worker."""
        return self.program.load(self.settings)

    def revised(self, settings: str) -> WorkerSpec:
        """The spec with these settings, as `config.revision` encodes them, in place of its own; "": with its own. All paths
        become absolute. Call it in a process that runs the application, before the application is loaded."""
        from starman.config.revision import decode

        chosen = decode(settings) if settings else self.settings
        located = chosen.located(self.program.workdir.absolute)
        revised = WorkerSpec(located, self.listeners, self.program, self.import_service)
        revised.scoreboard = self.scoreboard
        return revised

    def warm_up(self, application: Application) -> None:
        """Have `application` answer the warm-up requests of the settings. Raises WarmUpError."""
        if self.settings.warm_up:
            from starman.serving.warmup import warm_up

            warm_up(application, self.settings)

    def title(self, role: str) -> None:
        """Show `starman ROLE NAME` as the title of this process, unless the settings forbid it."""
        if not self.settings.disable_proctitle:
            from starman.process.proctitle import set_title

            set_title(f"starman {role} {self.program.describe(self.settings)}".rstrip())
