"""Reads variables that are set for any web server: PORT, WEB_CONCURRENCY and FORWARDED_ALLOW_IPS.

They replace defaults only: every other place that gives a setting comes before them. The master imports this module.
"""

from __future__ import annotations

from starman.config.option import GivenValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

# Heroku, Cloud Run, Railway, Render and others set PORT. Heroku sets WEB_CONCURRENCY by the size of the machine, and
# gunicorn, uvicorn and puma read it too. gunicorn and uvicorn read FORWARDED_ALLOW_IPS.
PLATFORM_VARIABLES = {"PORT": "port", "WEB_CONCURRENCY": "workers", "FORWARDED_ALLOW_IPS": "forwarded_allow_ips"}


def from_platform(environ: Mapping[str, str]) -> dict[str, GivenValue]:
    """The settings that these variables give. An empty variable counts as not set."""
    return {
        name: GivenValue(environ[variable], variable)
        for variable, name in PLATFORM_VARIABLES.items()
        if environ.get(variable, "").strip()
    }
