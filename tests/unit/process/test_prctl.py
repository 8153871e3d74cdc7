"""starman.process.prctl: attributes of a process, set in a child. Linux."""

from __future__ import annotations

import sys

import pytest

from starman.process.prctl import is_subreaper, load_prctl, make_dumpable, set_subreaper
from tests.unit.process.forked import run_forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="prctl is a call of Linux")

_GET_DUMPABLE, _SET_DUMPABLE = 3, 4


def test_a_process_becomes_a_subreaper_and_no_subreaper_again() -> None:
    def in_child() -> str:
        assert not is_subreaper()
        assert set_subreaper(True)
        assert is_subreaper()
        assert set_subreaper(False)
        assert not is_subreaper()
        return "fine"

    assert run_forked(in_child) == "fine"


def test_a_process_becomes_dumpable_again() -> None:
    def in_child() -> str:
        prctl = load_prctl()
        assert prctl is not None
        prctl(_SET_DUMPABLE, 0, 0, 0, 0)
        assert prctl(_GET_DUMPABLE, 0, 0, 0, 0) == 0
        make_dumpable()
        assert prctl(_GET_DUMPABLE, 0, 0, 0, 0) == 1
        return "fine"

    assert run_forked(in_child) == "fine"
