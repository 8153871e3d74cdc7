"""starman.process.worker.siblings: what a worker publishes to the others, and reads of them."""

from __future__ import annotations

import time

from starman.process.scoreboard import Scoreboard
from starman.process.worker.siblings import SiblingLoad


def test_workers_see_the_load_of_each_other() -> None:
    board = Scoreboard.create()
    pages = [board.map_page(board.assign_page(taken)) for taken in ((), (1,))]
    first, second = map(SiblingLoad, pages)
    assert pages[0] is not None
    assert pages[1] is not None
    pages[0].write_start(1001, 1, time.monotonic())
    pages[0].write_heartbeat(time.monotonic(), 0, 0, 0, False)
    assert first.is_alone()
    assert not second.is_alone()
    pages[1].write_start(1002, 2, time.monotonic())
    pages[1].write_heartbeat(time.monotonic(), 0, 0, 0, False)
    assert not first.is_alone()
    second.publish_load(7, crowded=False)
    assert first.fewest_connections() == 7
    second.publish_load(7, crowded=True)
    assert first.fewest_connections() is None


def test_without_a_page_there_are_no_siblings() -> None:
    load = SiblingLoad(None)
    load.publish_load(7, crowded=False)
    assert load.fewest_connections() is None
    assert not load.is_alone()
