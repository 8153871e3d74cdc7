"""starman.wsgi.body_memory: reservations are counted and may be released by any thread; uncleared bytes on every
Python."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from starman.wsgi import body_memory as module
from starman.wsgi.body_memory import FREE_BYTES, BodyMemory, uncleared


@pytest.fixture(autouse=True)
def forget_how_bytes_are_made() -> Iterator[None]:
    module._maker.cache_clear()
    yield
    module._maker.cache_clear()


def test_the_budget_grants_what_is_available_and_no_more() -> None:
    memory = BodyMemory(10, 100)
    assert memory.reserve(60)
    assert not memory.reserve(41)
    assert memory.reserve(40)
    assert not memory.reserve(1)
    memory.release(40)
    assert memory.available == 40
    assert memory.reserve(40)
    assert memory.available == 0


def test_a_body_has_no_more_for_free_than_it_may_have() -> None:
    assert BodyMemory(10, 100).free_bytes == 10
    assert BodyMemory(1 << 20, 0).free_bytes == FREE_BYTES


def test_threads_release_while_the_loop_reserves() -> None:
    memory = BodyMemory(10, 1000)
    starts = [threading.Event() for _ in range(4)]
    reserved: list[list[int]] = [[] for _ in starts]

    def release_all(counts: list[int], start: threading.Event) -> None:
        assert start.wait(10)
        for count in counts:
            memory.release(count)

    for number in range(200):
        count = number % 5 + 1
        assert memory.reserve(count)
        reserved[number % len(reserved)].append(count)
    threads = [threading.Thread(target=release_all, args=pair) for pair in zip(reserved, starts, strict=True)]
    for thread in threads:
        thread.start()
    for event in starts:
        event.set()
    own = 0
    while any(thread.is_alive() for thread in threads):
        if memory.reserve(1):
            own += 1
    assert memory.available + own == 1000


@pytest.mark.parametrize("size", [2, 65_536, 1_000_000])
def test_uncleared_bytes_are_new_objects_of_that_size(size: int) -> None:
    made, ordinary = [uncleared(size) for _ in range(3)], [bytes(size)]
    assert [(type(each), len(each)) for each in made] == [(bytes, size)] * 3
    assert len({id(each) for each in made}) == 3
    # With one reference more they would never be freed.
    assert sys.getrefcount(made[0]) == sys.getrefcount(ordinary[0])


def test_uncleared_bytes_are_not_cleared() -> None:
    """malloc gives out again what was freed last, so old content shows that nothing has cleared it."""
    sizes = [100_000 + 16 * number for number in range(50)]
    for size in sizes:
        old = b"x" * size
        del old
        if b"x" in uncleared(size):
            return
    raise AssertionError("all were cleared")


@pytest.mark.parametrize("lack", ["ctypes", "implementation"])
def test_elsewhere_they_are_cleared(lack: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if lack == "ctypes":
        monkeypatch.setitem(sys.modules, "ctypes", None)
    else:
        monkeypatch.setattr(module.sys, "implementation", SimpleNamespace(name="other"))
    assert uncleared(100_000) == bytes(100_000)
