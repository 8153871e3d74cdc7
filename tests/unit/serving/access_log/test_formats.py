"""starman.serving.access_log.formats: every name of the setting has a format."""

from __future__ import annotations

from starman.config.access_log_format import ATOMS, NAMES
from starman.serving.access_log.custom import CustomFormat
from starman.serving.access_log.formats import format_of


def test_every_name_has_a_format() -> None:
    assert [type(format_of(name)).__name__ for name in NAMES] == [
        *("CombinedFormat", "CombinedFormat", "OpenTelemetryFormat", "EcsFormat", "GcpFormat"),
    ]


def test_every_atom_has_a_value() -> None:
    for atom in ATOMS:
        assert type(format_of(f"%({atom})s")) is CustomFormat
