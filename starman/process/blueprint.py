"""The blueprint: what the master knows and every process that descends from it needs. It travels by fork.

Imports the serving side only when asked to, in a mold: the master holds the blueprint too.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starman.process.listeners import Listener
    from starman.process.scoreboard import Scoreboard
    from starman.process.worker import MakeService
    from starman.settings import Settings
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

    import starman.process.worker
    import starman.wsgi.mount  # noqa: F401
    from starman.serving.service import Service

    return Service


class Blueprint:
    """What molds and workers are made from.

    load_application: imports the application; raises StarmanError. application: the callable that `starman.run` was given, or
    None. name: what is served, for titles. import_service: see the function of that name.
    scoreboard: the master's, as soon as it runs.
    """

    __slots__ = ("application", "import_service", "listeners", "load_application", "name", "scoreboard", "settings")

    scoreboard: Scoreboard

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        load_application: Callable[[], Application],
        application: Application | None = None,
        name: str = "",
        import_service: Callable[[], MakeService] = import_service,
    ) -> None:
        self.settings = settings
        self.listeners = listeners
        self.load_application = load_application
        self.application = application
        self.name = name
        self.import_service = import_service

    def warm_up(self, application: Application) -> None:
        """Have `application` answer the warm-up requests of the settings. Raises WarmUpError."""
        if self.settings.warm_up:
            from starman.serving.warmup import warm_up

            warm_up(application, self.settings)

    def title(self, role: str) -> None:
        """Show `starman ROLE NAME` as the title of this process, unless the settings forbid it."""
        if not self.settings.disable_proctitle:
            from starman.process.title import set_title

            set_title(f"starman {role} {self.name}".rstrip())
