"""starman.serving.connections.progress: transfers that stop, and transfers that are too slow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.serving.connections.progress import Progress


def test_what_stands_still_is_measured_from_the_first_look_at_it() -> None:
    progress = Progress()
    assert not progress.is_slow("a", 0, 100.0, timeout=4)
    assert not progress.is_slow("a", 0, 103.9, timeout=4)
    assert progress.is_slow("a", 0, 104.0, timeout=4)
    assert not progress.is_slow("a", 1, 105.0, timeout=4)
    assert progress.is_slow("a", 1, 109.0, timeout=4)
    assert not progress.is_slow("b", 1, 110.0, timeout=4)
    progress.forget()
    assert not progress.is_slow("b", 1, 120.0, timeout=4)


@pytest.mark.parametrize("direction", [1, -1])
def test_what_moves_too_slowly_has_a_grace(direction: int) -> None:
    progress = Progress()
    began = 1_000_000
    for second in range(11):
        assert not progress.is_slow("a", began + direction * second, 100.0 + second, timeout=4, rate=500)
    assert progress.is_slow("a", began + direction * 11, 111.0, timeout=4, rate=500)
    assert not progress.is_slow("a", began + direction * 11, 111.0, timeout=4, rate=0)
    assert not progress.is_slow("a", began + direction * 500, 111.0, timeout=4, rate=500)
    assert progress.is_slow("a", began + direction * 501, 112.0, timeout=4, rate=500)


@given(st.integers(1, 10_000), st.integers(0, 100))
def test_a_transfer_at_its_rate_is_never_slow(rate: int, seconds: int) -> None:
    progress = Progress()
    for second in range(seconds):
        assert not progress.is_slow("a", rate * second, 50.0 + second, timeout=4, rate=rate)
