"""Writes metrics as text: the Prometheus format (version 0.0.4), or OpenMetrics (1.0.0), as the client accepts.

Sources: prometheus.io, "Exposition formats"; the OpenMetrics specification. Pure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starman.observer.metrics.samples import Family, Sample

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"

_LABEL_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
_HELP_ESCAPES = str.maketrans({"\\": r"\\", "\n": r"\n"})


def choose_format(accept: str) -> str:
    """TEXT or OPENMETRICS, as the value of the field Accept prefers (RFC 9110 §12.5.1)."""
    return OPENMETRICS if _quality(accept, "application/openmetrics-text") > _quality(accept, "text/plain") else TEXT


def _quality(accept: str, media_type: str) -> float:
    """How much a client wants a media type, 0.0 to 1.0. A wildcard does not ask for OpenMetrics."""
    found = 0.0
    for item in accept.split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name != media_type:
            continue
        quality = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                try:
                    quality = float(value)
                except ValueError:
                    quality = 0.0
        found = max(found, quality)
    return found


def encode(families: Iterable[Family], media_type: str) -> bytes:
    """The text of all metrics, in UTF-8."""
    open_metrics = media_type == OPENMETRICS
    lines: list[str] = []
    for metric, samples in families:
        name = metric.name.removesuffix("_total") if open_metrics else metric.name
        help_text = metric.help.translate(_LABEL_ESCAPES if open_metrics else _HELP_ESCAPES)
        lines.append(f"# HELP {name} {help_text}")
        lines.append(f"# TYPE {name} {metric.kind}")
        if open_metrics and metric.unit:
            lines.append(f"# UNIT {name} {metric.unit}")
        lines += [_line(metric.name, sample) for sample in samples]
    if open_metrics:
        lines.append("# EOF")
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(f'{label}="{value.translate(_LABEL_ESCAPES)}"' for label, value in sample.labels)
    return f"{name}{sample.suffix}{f'{{{labels}}}' if labels else ''} {number(sample.value)}"


def number(value: float) -> str:
    """A number, in a form that is read as the same value."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) and abs(value) < 1 << 53 else repr(float(value))
    return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
