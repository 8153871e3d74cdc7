"""Reads variables that hosting platforms set for any web server: PORT and WEB_CONCURRENCY.

They replace defaults only: every other place that gives a setting comes before them. The master imports this module.
"""

from __future__ import annotations

from starman.config.option import GivenValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Heroku, Cloud Run, Railway, Render and others set PORT. Heroku sets WEB_CONCURRENCY by the size of the machine, and
# gunicorn, uvicorn and puma read it too.
PLATFORM_VARIABLES = {"PORT": "port", "WEB_CONCURRENCY": "workers"}


def from_platform(environ: Mapping[str, str]) -> dict[str, GivenValue]:
    """The settings that variables of the platform give. An empty variable counts as not set."""
    return {
        name: GivenValue(environ[variable], variable)
        for variable, name in PLATFORM_VARIABLES.items()
        if environ.get(variable, "").strip()
    }
