"""starman.serving.sending.pace: blocks are only believed to come at once when those before have."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from starman.serving.sending.pace import AT_ONCE, CONVINCING, Pace

GAPS = st.lists(st.sampled_from([0.0, AT_ONCE / 2, AT_ONCE, AT_ONCE * 1.01, AT_ONCE * 2, 1.0]), max_size=40)


def verdicts(gaps: list[float]) -> list[bool]:
    now = 1000.0
    pace = Pace(now)
    found = []
    for gap in gaps:
        now += gap
        found.append(pace.is_rapid(now))
    return found


def test_the_first_blocks_are_not_believed_to_be_followed() -> None:
    assert verdicts([0.0] * (CONVINCING + 2)) == [False] * CONVINCING + [True, True]


def test_one_that_had_to_be_waited_for_begins_anew() -> None:
    run = [0.0] * (CONVINCING + 1)
    assert verdicts([*run, 2 * AT_ONCE, *run]) == [False] * CONVINCING + [True, False] + [False] * CONVINCING + [True]


@given(GAPS)
def test_those_that_are_have_come_at_once_one_behind_the_other(gaps: list[float]) -> None:
    # What was added and taken away again is not exactly what it was.
    rapid = [gap <= AT_ONCE * 0.999 for gap in gaps]
    slow = [gap > AT_ONCE * 1.001 for gap in gaps]
    for number, verdict in enumerate(verdicts(gaps)):
        last = slice(max(0, number - CONVINCING), number + 1)
        if verdict:
            assert number >= CONVINCING
            assert not any(slow[last])
        elif number >= CONVINCING:
            assert not all(rapid[last])
