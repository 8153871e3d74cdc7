"""starman.process.handover: the text that passes from the master to its upgraded self."""

from __future__ import annotations

import pytest

from starman.process.handover import FORMAT, HandedControl, HandedListener, HandedWorker, Handover, decode, encode

WHOLE = Handover(
    "00ff",
    3,
    2,
    [
        HandedListener(5, "127.0.0.1:0", secure=True, file=None),
        HandedListener(6, "/run/a b\n\udcff.sock", secure=False, file=("/run/a b\n\udcff.sock", 2, 3)),
    ],
    [HandedWorker(4711, 7, 1, 5, 12.5, 0.0), HandedWorker(4712, 8, 1, 0, 1 / 3, 1e9 + 0.1)],
)
WHOLE.control = HandedControl(11, "@starman/4710", None)
WHOLE.handed_workers[0].to_replace = True
WHOLE.handed_workers[1].stacks = 10


@pytest.mark.parametrize("restarting", [False, True])
@pytest.mark.parametrize("reopening", [False, True])
def test_round_trip(reopening: bool, restarting: bool) -> None:
    WHOLE.reopening, WHOLE.restarting = reopening, restarting
    WHOLE.scoreboard = 9
    text = encode(WHOLE)
    assert decode(text) == WHOLE
    assert "\0" not in text


@pytest.mark.parametrize("control", [None, HandedControl(12, "/run/a b.sock", (5, 6))])
def test_round_trip_of_the_control_socket(control: HandedControl | None) -> None:
    handover = Handover("00ff", 1, 1, [], [])
    handover.control = control
    assert decode(encode(handover)) == handover


def test_round_trip_of_the_admin_listeners() -> None:
    handover = Handover("00ff", 1, 1, [], [])
    handover.admin = [
        HandedListener(5, "127.0.0.1:0", secure=True, file=None),
        HandedListener(6, "/a", secure=False, file=("/a", 2, 3)),
    ]
    assert decode(encode(handover)) == handover
    assert handover.fds() == [5, 6]


def test_the_descriptors_of_all() -> None:
    WHOLE.scoreboard = -1
    assert WHOLE.fds() == [5, 6, 7, 8, 10, 11]
    WHOLE.scoreboard = 9
    assert WHOLE.fds() == [5, 6, 7, 8, 10, 9, 11]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "settings 00\nslots 1 1",
        f"format {FORMAT + 1}\nslots 1 1",
        f"format {FORMAT}\nslots 1",
        f"format {FORMAT}\nslots 0 0",
        f"format {FORMAT}\nslots 1 1\nworker 1 2 3",
        f"format {FORMAT}\nslots 1 1\nlistener 1 xx 0 0 0 00",
        f"format {FORMAT}\nslots 1 1\nunheard of",
    ],
)
def test_what_is_no_hand_over_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode(text)
