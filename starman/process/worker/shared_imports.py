"""Imports everything that a worker needs, in a mold before it forks, so that workers share the memory of the modules.

The master imports this module too, so nothing large is imported at the top. Never imports `starman.loading`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.process.worker_spec import MakeService


def import_service() -> MakeService:
    """Import the modules of a worker; return the class of the service. Main thread of a mold, a worker or a trial."""
    # Modules that `starman.loading`, anyio and the mold import at their first use, which would be in each worker.
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


def import_features(settings: Settings) -> None:
    """Import the modules of features that `settings` switch on. Main thread of a mold, before it forks."""
    from starman.serving.access_log.opening import import_access_log

    import_access_log(settings)
