"""starman.wsgi.body_memory: what is taken is counted, and comes back from any thread."""

from __future__ import annotations

import threading

from starman.wsgi.body_memory import FREE_BYTES, BodyMemory


def test_it_grants_what_there_is_and_no_more() -> None:
    memory = BodyMemory(10, 100)
    assert memory.take(60)
    assert not memory.take(41)
    assert memory.take(40)
    assert not memory.take(1)
    memory.give_back(40)
    assert memory.left == 40
    assert memory.take(40)
    assert memory.left == 0


def test_a_body_has_no_more_for_free_than_it_may_have() -> None:
    assert BodyMemory(10, 100).free_bytes == 10
    assert BodyMemory(1 << 20, 0).free_bytes == FREE_BYTES


def test_threads_give_back_while_the_loop_takes() -> None:
    memory = BodyMemory(10, 1000)
    todo = [threading.Event() for _ in range(4)]
    taken: list[list[int]] = [[] for _ in todo]

    def give_back(mine: list[int], begun: threading.Event) -> None:
        assert begun.wait(10)
        for count in mine:
            memory.give_back(count)

    for turn in range(200):
        mine = taken[turn % len(taken)]
        assert memory.take(turn % 5 + 1)
        mine.append(turn % 5 + 1)
    threads = [threading.Thread(target=give_back, args=pair) for pair in zip(taken, todo, strict=True)]
    for thread in threads:
        thread.start()
    for event in todo:
        event.set()
    own = 0
    while any(thread.is_alive() for thread in threads):
        if memory.take(1):
            own += 1
    assert memory.left + own == 1000
