"""starman.process.supervision.respawns: each end of a worker has one reason."""

from __future__ import annotations

from typing import Any

import pytest

from starman.process.supervision.child import State, Worker
from starman.process.supervision.respawns import Respawns


def ended(**fields: Any) -> Worker:
    worker = Worker.__new__(Worker)
    values = {"silent": False, "failure": None, "to_replace": False, "state": State.READY} | fields
    for name, value in values.items():
        setattr(worker, name, value)
    return worker


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({}, "crashed"),
        ({"silent": True, "state": State.KILLED}, "silent"),
        ({"failure": ("no module", "")}, "failed_start"),
        ({"state": State.DRAINING}, "restarted"),
        ({"state": State.DRAINING, "to_replace": True}, "recycled"),
        ({"state": State.READY, "to_replace": True}, "crashed"),
    ],
)
def test_a_worker_that_ends_is_counted_by_its_reason(fields: dict[str, Any], reason: str) -> None:
    respawns = Respawns()
    respawns.count(ended(**fields))
    assert [name for name, count in respawns.reasons.items() if count] == [reason]
