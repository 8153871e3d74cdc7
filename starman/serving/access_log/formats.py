"""Makes the format that the setting `access_log_format` names. Imports only the module of that format."""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman.serving.access_log.combined import CombinedFormat

if TYPE_CHECKING:
    from starman.serving.access_log.line_format import LineFormat


def format_of(text: str) -> LineFormat:
    """The format of a name (NAMES of `starman.config.access_log_format`), or a custom one. Raises ValueError if it is
    not valid."""
    if text in ("combined", "common"):
        return CombinedFormat(common=text == "common")
    if text in ("json", "ecs", "gcp"):
        from starman.serving.access_log import json_formats

        return json_formats.FORMATS[text]()
    from starman.serving.access_log.custom import CustomFormat

    return CustomFormat(text)
