"""Opens the access log. Without one, its modules are not imported, so they take no memory.

A mold imports them before it forks workers that have an access log (`import_access_log`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starman.config.settings import Settings
    from starman.serving.access_log.access_log import AccessLog


def open_access_log(settings: Settings) -> AccessLog | None:
    """The access log that the settings ask for; None: none. Raises SettingError when it cannot be written."""
    if not _is_on(settings):
        return None
    from starman.serving.access_log.access_log import AccessLog

    line_filter = None
    if settings.access_log_skip or settings.access_log_errors:
        from starman.serving.access_log.line_filter import LineFilter

        line_filter = LineFilter(settings.access_log_skip, errors_only=settings.access_log_errors)
    return AccessLog(settings.access_log, settings.access_log_format, line_filter, in_loop=not settings.threads)


def import_access_log(settings: Settings) -> None:
    """Import what `open_access_log` needs. For a mold, before it forks."""
    if not _is_on(settings):
        return
    from starman.serving.access_log import access_log  # noqa: F401
    from starman.serving.access_log.formats import format_of

    format_of(settings.access_log_format)
    if settings.access_log_skip or settings.access_log_errors:
        from starman.serving.access_log import line_filter  # noqa: F401


def _is_on(settings: Settings) -> bool:
    return settings.access_log not in (None, "off")
