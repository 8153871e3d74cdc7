"""starman.serving.access_log.log_times: the same instant in two notations."""

from __future__ import annotations

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from starman.serving.access_log.log_times import CommonTime, InternetTime


@given(st.lists(st.integers(0, 4_000_000_000_000_000), min_size=1))
def test_times_are_right_in_any_order(instants: list[int]) -> None:
    internet, common = InternetTime(), CommonTime()
    for microseconds in instants:
        instant = microseconds / 1_000_000
        read = datetime.fromisoformat(internet.at(instant))
        assert abs((read - datetime.fromtimestamp(instant, UTC)).total_seconds()) <= 0.000_002
        assert datetime.strptime(common.at(instant), "%d/%b/%Y:%H:%M:%S %z").timestamp() == int(instant)
