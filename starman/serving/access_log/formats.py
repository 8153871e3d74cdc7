"""Makes the format that the setting `access_log_format` names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from starman.serving.access_log.combined import CombinedFormat
from starman.serving.access_log.custom import CustomFormat
from starman.serving.access_log.json_formats import EcsFormat, GcpFormat, OpenTelemetryFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.access_log.line_format import LineFormat

# By name; NAMES of `starman.config.access_log_format`.
FORMATS: Final[dict[str, Callable[[], LineFormat]]] = {
    "combined": CombinedFormat,
    "common": lambda: CombinedFormat(common=True),
    "json": OpenTelemetryFormat,
    "ecs": EcsFormat,
    "gcp": GcpFormat,
}


def format_of(text: str) -> LineFormat:
    """The format of a name, or a custom one. Raises ValueError if it is not valid."""
    make = FORMATS.get(text)
    return CustomFormat(text) if make is None else make()
