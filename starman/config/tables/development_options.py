"""The table of settings for development, which `starman.config.options` includes. The master imports this module."""

from __future__ import annotations

from starman.config import kinds
from starman.config.option import option

# With `reload`, a worker has at most this long (seconds) to finish its requests: streams and WebSockets do not end by
# themselves.
RELOAD_SECONDS = 0.8


class DevelopmentOptions:
    """Declares the settings for development."""

    __slots__ = ()

    reload: bool = option(
        False,
        "Development",
        kinds.FLAG,
        "For development: watch the source files of the application, and replace the workers when one changes. An error in "
        "them is shown in the log and in the browser. Runs 1 worker unless --workers is given, and cuts requests that take "
        f"longer than {RELOAD_SECONDS:g} s at a change or a stop.",
        fixed=True,
    )
    reload_engine: str = option(
        "auto",
        "Development",
        kinds.choice("auto", "watchfiles", "poll"),
        "Find changes with the package watchfiles (pip install watchfiles), or compare the files ten times a second. auto: "
        "watchfiles if it is installed.",
        fixed=True,
    )
    reload_extra_files: tuple[str, ...] = option(
        (),
        "Development",
        kinds.many(kinds.text("a file or a glob", "GLOB")),
        "Watch these files too: a path or a glob. ** stands for any directories (templates/**/*.html).",
        fixed=True,
    )
