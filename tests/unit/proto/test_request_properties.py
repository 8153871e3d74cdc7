"""starman.proto.request under hypothesis: what was written is what is read, in any pieces; what is broken is refused
cleanly."""

from __future__ import annotations

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from tests.unit.proto.feeding import STATUSES, Outcome, Request, cut_at, feed, one_by_one
from tests.unit.proto.strategies import Message, messages, mutations

CUTS = st.lists(st.integers(0, 600), max_size=8)
SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def requests_of(written: list[Message]) -> list[Request]:
    return [Request(message.head, message.body, message.trailers, complete=True) for message in written]


@SETTINGS
@given(st.lists(messages(persistent=True), max_size=2), messages(), CUTS)
def test_what_was_written_is_what_is_read(before: list[Message], last: Message, positions: list[int]) -> None:
    written = [*before, last]
    data = b"".join(message.data for message in written)
    expected = Outcome(requests_of(written))
    assert feed([data]) == expected
    assert feed(one_by_one(data)) == expected
    assert feed(cut_at(data, positions)) == expected


@SETTINGS
@given(messages(persistent=False), st.binary(max_size=40))
def test_nothing_is_read_behind_a_request_that_is_not_persistent(message: Message, behind: bytes) -> None:
    expected = Outcome(requests_of([message]))
    assert feed([message.data + behind]) == expected
    assert feed(one_by_one(message.data + behind)) == expected


@SETTINGS
@given(messages(), st.integers(1, 20))
def test_the_beginning_of_a_request_is_waited_for(message: Message, missing: int) -> None:
    outcome = feed([message.data[:-missing]])
    assert outcome.status is None
    assert not [request for request in outcome.requests if request.complete]


@settings(SETTINGS, max_examples=120)
@given(mutations(), CUTS)
def test_a_changed_request_is_read_refused_or_waited_for(data: bytes, positions: list[int]) -> None:
    """No other exception, no hang, and one judgement for all pieces; `feed` checks what else must hold."""
    outcome = feed([data])
    event(f"status {outcome.status}")
    assert outcome.status in {None, *STATUSES}
    assert feed(one_by_one(data)).judged == outcome.judged
    assert feed(cut_at(data, positions)).judged == outcome.judged


@settings(SETTINGS, max_examples=120)
@given(st.binary(max_size=200), CUTS)
def test_any_bytes(data: bytes, positions: list[int]) -> None:
    outcome = feed([data])
    assert feed(one_by_one(data)).judged == outcome.judged
    assert feed(cut_at(data, positions)).judged == outcome.judged
