"""starman.wsgi.uncleared: bytes of their own, as many as asked for, on every Python."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from starman.wsgi import uncleared as module
from starman.wsgi.uncleared import uncleared


@pytest.fixture(autouse=True)
def look_anew() -> Iterator[None]:
    module._maker.cache_clear()
    yield
    module._maker.cache_clear()


@pytest.mark.parametrize("size", [2, 65_536, 1_000_000])
def test_they_are_bytes_of_that_size_and_nobody_elses(size: int) -> None:
    made, ordinary = [uncleared(size) for _ in range(3)], [bytes(size)]
    assert [(type(each), len(each)) for each in made] == [(bytes, size)] * 3
    assert len({id(each) for each in made}) == 3
    assert sys.getrefcount(made[0]) == sys.getrefcount(ordinary[0])  # else they would never be free again


def test_they_are_not_cleared() -> None:
    """Else the kernel would find what it is about to fill filled already. What was freed last is given out again."""
    sizes = [100_000 + 16 * number for number in range(50)]
    for size in sizes:
        del_me = b"x" * size
        del del_me
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
