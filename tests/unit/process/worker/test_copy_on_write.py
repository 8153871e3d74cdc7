"""starman.process.worker.copy_on_write: settled objects stay correct, and objects that an application drops are
finalized."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import weakref
from typing import Any

import pytest

from starman.process.worker import copy_on_write
from tests.unit.process.forked import run_forked

IMMORTAL = pytest.mark.parametrize("immortal", [True, False])


class Connection:
    """An object with an end that matters."""


def holders_of(connection: Connection) -> list[Any]:
    """A list, a tuple, a dictionary, a closure and a default that keep the connection."""
    return [[connection], (connection,), {"it": connection}, lambda: connection, lambda it=connection: it]


def some_function(flag: bool = False, kind: type = Connection, *, name: str | None = None) -> str:
    return "a name of some length"


@IMMORTAL
def test_settled_objects_are_frozen_and_new_ones_collected(immortal: bool) -> None:
    def in_child() -> object:
        copy_on_write.settle_memory(immortal=immortal)
        frozen = gc.get_freeze_count()
        circle: list[object] = [Connection()]
        circle.append(circle)
        end = weakref.ref(circle[0])
        del circle
        gc.collect()
        return frozen > 1000 and end() is None and gc.isenabled()

    assert run_forked(in_child) == "True"


@IMMORTAL
def test_what_is_dropped_after_it_was_settled_is_finalized(immortal: bool) -> None:
    def in_child() -> object:
        holders = holders_of(Connection())
        ends = [weakref.ref(holder) for holder in (holders[0][0], *holders[3:])]
        copy_on_write.settle_memory(immortal=immortal)
        holders.clear()
        return [end() is None for end in ends]

    assert run_forked(in_child) == "[True, True, True]"


def test_new_objects_are_put_into_fresh_pools() -> None:
    # In a process of its own: after many tests this process has more holes than a mold ever will.
    script = """
from starman.process.worker import copy_on_write
copy_on_write.settle_memory(immortal=True)
blocks = [bytes(320 - 33) for _ in range(40)]
print(len({id(block) // 16_384 for block in blocks}) <= 2)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "True\n"


def test_the_filling_is_bounded_with_any_allocator() -> None:
    script = "from starman.process.worker import copy_on_write; print(sum(map(sys.getsizeof, copy_on_write._fill_pool_holes())))"
    for allocator in ("pymalloc", "malloc"):
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; {script}"],
            env={**os.environ, "PYTHONMALLOC": allocator},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        assert int(done.stdout) < 2_000_000


@IMMORTAL
def test_large_data_can_be_freed(immortal: bool) -> None:
    def in_child() -> object:
        data = [b"x" * 5000, "y" * 5000]
        counts = [sys.getrefcount(item) for item in data]
        copy_on_write.settle_memory(immortal=immortal)
        return counts == [sys.getrefcount(item) for item in data]

    assert run_forked(in_child) == "True"


@IMMORTAL
def test_code_names_and_classes_are_immortal_if_that_is_set(immortal: bool) -> None:
    def in_child() -> object:
        things = (some_function, some_function.__code__, some_function(), Connection, "_quite_a_name_", weakref)
        before = [sys.getrefcount(thing) == 0xFFFF_FFFF for thing in things]
        copy_on_write.settle_memory(immortal=immortal)
        after = [sys.getrefcount(thing) == 0xFFFF_FFFF for thing in things]
        # CPython itself may have made a name immortal.
        return after == ([True] * 6 if expected else before)

    expected = immortal and (3, 12) <= sys.version_info < (3, 14)
    assert run_forked(in_child) == "True"


@pytest.mark.parametrize(
    ("name", "value"),
    [("version_info", (3, 14, 0)), ("abiflags", "t"), ("byteorder", "big"), ("maxsize", 2**31), ("getobjects", len)],
)
def test_other_interpreters_are_left_alone(monkeypatch: pytest.MonkeyPatch, name: str, value: object) -> None:
    monkeypatch.setattr(sys, name, value, raising=False)
    assert not copy_on_write._can_immortalize()


class Unready:
    """As the lazy objects of Django before its settings are configured."""

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        raise RuntimeError("settings are not configured")


def test_an_object_that_hides_its_class_is_left_alone() -> None:
    found = Unready()
    assert not copy_on_write._is_plain(found, Unready)
    assert not copy_on_write._is_plain((found,), tuple)
