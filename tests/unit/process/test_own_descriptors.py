"""starman.process.own_descriptors: the listing of this process."""

from __future__ import annotations

import os

from starman.process.own_descriptors import list_descriptors


def test_open_descriptors_are_listed_in_order_and_closed_ones_are_not() -> None:
    reader, writer = os.pipe()
    listed = list_descriptors()
    assert listed is not None
    assert {reader, writer} <= set(listed)
    assert listed == sorted(listed)
    os.close(reader)
    os.close(writer)
    listed = list_descriptors()
    assert listed is not None
    assert writer not in listed
