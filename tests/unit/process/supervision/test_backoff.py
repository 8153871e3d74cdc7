"""starman.process.supervision.backoff: the back-off. Its effects are tested with the supervisor."""

from __future__ import annotations

from starman.process.supervision.backoff import Backoff


def test_backoff_doubles_counts_one_round_once_and_lets_one_try() -> None:
    backoff = Backoff()
    assert backoff.allows(0.0, starting=9)
    assert backoff.failed(requested_at=0.0, now=1.0)
    assert not backoff.failed(requested_at=0.0, now=1.1)
    assert not backoff.allows(1.4, starting=0)
    assert backoff.allows(1.5, starting=0)
    assert not backoff.allows(1.5, starting=1)
    assert backoff.failed(requested_at=1.5, now=1.6)
    assert not backoff.allows(2.5, starting=0)
    assert backoff.allows(2.6, starting=0)
    backoff.succeeded()
    assert backoff.allows(2.6, starting=5)
    backoff.reset()
    assert backoff.failed(requested_at=9.0, now=9.0)
    assert backoff.not_before == 9.5


def test_backoff_is_never_longer_than_a_minute() -> None:
    backoff = Backoff()
    for attempt in range(2000):
        backoff.failed(requested_at=attempt * 100.0 + 1, now=attempt * 100.0 + 2)
        assert backoff.not_before - (attempt * 100.0 + 2) <= 60.0
