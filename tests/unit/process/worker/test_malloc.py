"""starman.process.worker.malloc: holes are filled, free pages are kept and returned, and another C library is left
alone."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from starman.process.worker import malloc

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="for glibc on Linux only")


def in_a_fresh_process(script: str, **variables: str) -> str:
    """The output of `script`, with more environment variables. This process has more holes, after many tests, than a
    mold has."""
    begin = "from starman.process.worker import malloc\nlibc = malloc._glibc()\n"
    command = [sys.executable, "-c", begin + script]
    environment = {**os.environ, **variables}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# bytes of more than 512 come from malloc. Every other one is freed.
HOLES = """
blocks = [bytes({size}) for _ in range(4000)]
holes = {{id(block) for block in blocks[::2]}}
del blocks[::2]
"""


def test_later_blocks_are_not_put_into_holes() -> None:
    script = """
taken = malloc.fill_malloc_holes()
later = {id(block) for block in [bytes(600) for _ in range(1000)]}
print(taken >= 2000 * 600 and not later & holes)
"""
    assert in_a_fresh_process(HOLES.format(size=600) + script) == "True"
    assert in_a_fresh_process(HOLES.format(size=600) + script.replace("malloc.fill_malloc_holes()", "1 << 30")) == "False"


def test_holes_are_filled_once_and_the_heap_does_not_grow() -> None:
    script = """
malloc.fill_malloc_holes()
end = libc.sbrk(0)
print(malloc.fill_malloc_holes() < 1 << 18 and libc.sbrk(0) <= end + (1 << 18))
"""
    assert in_a_fresh_process(HOLES.format(size=3000) + script) == "True"


def test_filling_is_bounded() -> None:
    script = "malloc._MOST_FILLING = 1 << 20\nprint(malloc.fill_malloc_holes() <= (1 << 20) + 65_536)"
    assert in_a_fresh_process(HOLES.format(size=3000) + script) == "True"


@pytest.mark.parametrize(
    "lack", ["sys.modules['_ctypes'] = None", "sys.platform = 'darwin'", "sys.implementation.name = 'other'"]
)
def test_nothing_is_done_elsewhere(lack: str) -> None:
    script = f"""
import sys
{lack}
from starman.process.worker import copy_on_write, malloc
assert malloc.fill_malloc_holes() == 0
assert not malloc.keep_free_pages()
assert not malloc.give_back_free_pages()
copy_on_write.settle_memory(immortal=True)
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


# Prints whether the pages of freed blocks stay in memory, whether they are returned then, and whether most of them
# have gone.
FREE_PAGES = """
import os
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
{keep}
blocks = [b"x" * 1_000_000 for _ in range(48)]
full = resident()
del blocks
kept = resident()
given = malloc.give_back_free_pages(), malloc.give_back_free_pages()
print(full - kept < 1_000_000, given[0], full - resident() > 44_000_000)
"""


def test_free_pages_are_kept_for_the_next_request_and_given_back_in_the_end() -> None:
    assert in_a_fresh_process(FREE_PAGES.format(keep="assert malloc.keep_free_pages()")) == "True True True"
    # By default malloc keeps next to nothing, so there is nothing to return.
    assert in_a_fresh_process(FREE_PAGES.format(keep="")) == "False False True"


@pytest.mark.parametrize(
    ("name", "value"), [("MALLOC_TRIM_THRESHOLD_", "131072"), ("GLIBC_TUNABLES", "glibc.malloc.mmap_threshold=131072")]
)
def test_thresholds_of_the_environment_stay(name: str, value: str) -> None:
    keep = "assert not malloc.keep_free_pages()"
    assert in_a_fresh_process(FREE_PAGES.format(keep=keep), **{name: value}) == "False False True"


def test_another_c_library_keeps_what_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malloc, "_glibc", lambda: None)
    assert not malloc.keep_free_pages()
    assert not malloc.give_back_free_pages()
