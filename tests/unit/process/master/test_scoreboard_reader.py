"""starman.process.master.scoreboard_reader: what the master reads about workers from the scoreboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from starman.process.master.links import Links
from starman.process.master.scoreboard_reader import ScoreboardReader
from starman.process.master.signals import SignalQueue
from starman.process.scoreboard import Scoreboard, WorkerPage


class Board:
    """A scoreboard with a reader over the links of two workers, 7 and 8."""

    def __init__(self) -> None:
        self.scoreboard = Scoreboard.create()
        self.signals = SignalQueue()
        self.links = Links(self.signals)
        self.reader = ScoreboardReader(self.scoreboard, self.links)
        self.theirs = [self.links.open_link(number) for number in (7, 8)]

    def begin(self, number: int) -> WorkerPage:
        """Have the worker with this number become ready."""
        page = self.scoreboard.map_page(self.reader.assign_page(number))
        assert page is not None
        page.write_start(100 + number, 1, 50.0)
        return page

    def close(self) -> None:
        for channel in self.theirs:
            channel.close()
        self.links.close()
        self.signals.close()
        self.scoreboard.close()


@pytest.fixture
def board() -> Iterator[Board]:
    made = Board()
    yield made
    made.close()


def serve(page: WorkerPage, thread: int, target: bytes, since: float) -> None:
    line = page.request_recorder(thread)
    assert line is not None
    line[0](since, b"GET", target)


def test_the_place_of_a_removed_worker_is_free_again(board: Board) -> None:
    assert [board.reader.assign_page(number) for number in (7, 8)] == [1, 2]
    link = board.links.find_link(7)
    assert link is not None
    board.links.remove_link(link)
    board.theirs.append(board.links.open_link(9))
    assert board.reader.assign_page(9) == 1


def test_beats_are_those_of_workers_with_a_place(board: Board) -> None:
    assert board.reader.read_heartbeats() == {}
    board.begin(8).write_heartbeat(51.5, 1, 2, 3, False)
    assert board.reader.read_heartbeats() == {8: 51.5}


def test_requests_are_described_the_oldest_first_and_at_most_eight(board: Board) -> None:
    link = board.links.find_link(7)
    assert link is not None
    assert board.reader.describe_requests(link, 60.0) == ""
    page = board.begin(7)
    assert board.reader.describe_requests(link, 60.0) == ""
    serve(page, 0, b"/a", 59.5)
    serve(page, 1, b"/b", 58.0)
    assert board.reader.describe_requests(link, 60.0) == " while serving GET /b (for 2.0 s), GET /a (for 0.5 s)"
    for thread in range(2, 12):
        serve(page, thread, b"/c", 60.0)
    assert board.reader.describe_requests(link, 60.0).endswith(", GET /c (for 0.0 s) and 4 more")


def test_requests_are_counted_by_workers_that_drain(board: Board) -> None:
    """For a worker that does not drain, the requests that its threads run count."""
    assert board.reader.all_have_counted()
    assert board.reader.count_in_flight() == 0
    first, second = board.begin(7), board.begin(8)
    serve(first, 0, b"/a", 59.0)
    serve(second, 0, b"/b", 58.0)
    first.write_in_flight(4)
    assert not board.reader.all_have_counted()
    assert board.reader.count_in_flight() == 5
    link = board.links.find_link(7)
    assert board.reader.describe_requests(link, 60.0) == " while serving GET /a (for 1.0 s) and 3 more"
    assert board.reader.describe_requests(None, 60.0) == " while serving GET /b (for 2.0 s), GET /a (for 1.0 s) and 3 more"
    second.write_in_flight(0)
    assert board.reader.all_have_counted()
    assert board.reader.count_in_flight() == 4


@pytest.mark.parametrize("beat", [float("inf"), float("nan"), float("-inf"), -1.0, 1e300])
def test_a_beat_that_cannot_be_is_ignored(board: Board, beat: float) -> None:
    page = board.begin(8)
    page.write_heartbeat(51.5, 1, 2, 3, False)
    assert board.reader.read_heartbeats() == {8: 51.5}
    page.write_heartbeat(beat, 1, 2, 3, False)
    assert board.reader.read_heartbeats() == {8: 51.5}
    page.write_heartbeat(52.0, 1, 2, 3, False)
    assert board.reader.read_heartbeats() == {8: 52.0}
    page.write_heartbeat(51.0, 1, 2, 3, False)
    assert board.reader.read_heartbeats() == {8: 52.0}


def test_impossible_ages(board: Board) -> None:
    link = board.links.find_link(7)
    assert link is not None
    page = board.begin(7)
    for thread, since in enumerate((float("nan"), float("inf"), 99.0, 58.0, float("-inf"))):
        serve(page, thread, b"/%d" % thread, since)
    assert board.reader.describe_requests(link, 60.0) == (
        " while serving GET /4 (for an unknown time), GET /3 (for 2.0 s), GET /2 (for 0.0 s), "
        "GET /0 (for an unknown time), GET /1 (for an unknown time)"
    )
