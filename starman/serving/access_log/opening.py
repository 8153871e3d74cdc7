"""Opens the access log. Without one, its modules are not imported, so they take no memory.

A mold imports them before it forks workers that have an access log (`import_access_log`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings
    from starman.serving.access_log.access_log import AccessLog
    from starman.serving.access_log.line_filter import LineFilter

# Opens an access log of another kind, or returns None if `open_access_log` is to open the usual one. Set in the main
# thread, by what loads the application, before the service is made.
replacement: Callable[[Settings], AccessLog | None] | None = None


def open_access_log(settings: Settings) -> AccessLog | None:
    """The access log that the settings ask for; None: none. Raises SettingError when it cannot be written."""
    if replacement is not None:
        replaced = replacement(settings)
        if replaced is not None:
            return replaced
    if not is_on(settings):
        return None
    from starman.serving.access_log.access_log import AccessLog

    return AccessLog(settings.access_log, settings.access_log_format, line_filter_of(settings), in_loop=not settings.threads)


def line_filter_of(settings: Settings) -> LineFilter | None:
    """What leaves requests out of the access log; None: nothing does."""
    if not (settings.access_log_skip or settings.access_log_errors):
        return None
    from starman.serving.access_log.line_filter import LineFilter

    return LineFilter(settings.access_log_skip, errors_only=settings.access_log_errors)


def import_access_log(settings: Settings) -> None:
    """Import what `open_access_log` needs. For a mold, before it forks."""
    if not is_on(settings):
        return
    from starman.serving.access_log import access_log  # noqa: F401
    from starman.serving.access_log.formats import format_of

    format_of(settings.access_log_format)
    if settings.access_log_skip or settings.access_log_errors:
        from starman.serving.access_log import line_filter  # noqa: F401


def is_on(settings: Settings) -> bool:
    """Whether the settings ask for an access log."""
    return settings.access_log not in (None, "off")
