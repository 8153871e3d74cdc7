"""starman.process.worker.malloc: holes are filled, zeros given back, and what is there stays as it is."""

from __future__ import annotations

import asyncio
import gc
import mmap
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import uvloop

from starman.process.worker import malloc
from tests.unit.process.forked import run_forked

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of glibc on Linux only")

MEGABYTE = 1 << 20


def private_dirty() -> int:
    """Bytes of this process's pages that it has written to and shares with nobody."""
    rollup = Path("/proc/self/smaps_rollup").read_text("ascii")
    return sum(int(number) * 1024 for number in re.findall(r"^Private_Dirty: +(\d+)", rollup, re.MULTILINE))


def in_a_fresh_process(script: str) -> str:
    """What `script` prints: after many tests this process's own heap has more holes than a mold's ever will."""
    begin = "from starman.process.worker import malloc\nlibc = malloc._glibc()\n"
    done = subprocess.run([sys.executable, "-c", begin + script], capture_output=True, text=True, timeout=60, check=False)
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


def test_without_room_for_a_large_block_a_worker_starts_all_the_same() -> None:
    script = """
import resource
with open("/proc/self/statm") as statm:
    size = int(statm.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + (16 << 20), resource.RLIM_INFINITY))
from starman.process.worker import malloc
try:
    bytes(malloc._UNMAPPED)
except MemoryError:
    malloc.keep_free_pages()
    print("kept")
"""
    assert in_a_fresh_process(script) == "kept"


def test_a_page_is_as_large_as_the_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    """madvise(2) rounds a length up to it: with a smaller one of ours, bytes behind the zeros would be lost."""
    assert malloc._PAGE == mmap.PAGESIZE
    monkeypatch.setattr(malloc, "_PAGE", 4 * mmap.PAGESIZE)
    monkeypatch.setattr(malloc, "_NO_BYTES", bytes(4 * mmap.PAGESIZE))
    data = bytearray(64 * mmap.PAGESIZE)
    data[:: 4 * mmap.PAGESIZE] = b"x" * 16  # in each of these larger pages there is something
    assert malloc.give_back_zeros(bytes(data)) == 0


@pytest.mark.parametrize("large", [60_000, MEGABYTE], ids=["of the heap", "of a mapping"])
def test_zeros_are_given_back_and_all_else_is_kept(large: int) -> None:
    def in_child() -> object:
        gc.disable()  # it writes to every object, and so makes copies of the parent's pages
        items = [b"".join((b"begin", bytes(large), b"middle", bytes(large), b"end")) for _ in range(20)]
        malloc.give_back_zeros(b"")  # what it needs itself is there from now on
        before = private_dirty()
        given = sum(malloc.give_back_zeros(item) for item in items)
        less = before - private_dirty()
        whole = all(item == b"".join((b"begin", bytes(large), b"middle", bytes(large), b"end")) for item in items)
        return given >= 20 * (2 * large - 5 * 4096) and less > given / 2 and whole

    assert run_forked(in_child) == "True"


def test_a_loop_works_without_its_zeros() -> None:
    def in_child() -> object:
        loop = uvloop.new_event_loop()
        given = malloc.give_back_zeros(loop)

        async def talk() -> int:
            server = await asyncio.start_server(lambda reader, writer: writer.write(b"x" * MEGABYTE), "127.0.0.1", 0)
            reader, _ = await asyncio.open_connection(*server.sockets[0].getsockname())
            return len(await reader.readexactly(MEGABYTE))

        received = loop.run_until_complete(talk())
        return given >= 200_000 and received == MEGABYTE

    assert run_forked(in_child) == "True"


@pytest.mark.parametrize(
    "lack", ["sys.modules['_ctypes'] = None", "sys.platform = 'darwin'", "sys.implementation.name = 'other'"]
)
def test_nothing_is_done_elsewhere(lack: str) -> None:
    script = f"""
import sys
{lack}
from starman.process.worker import copy_on_write, malloc
assert malloc.fill_malloc_holes() == malloc.give_back_zeros(bytes(100_000)) == 0
copy_on_write.settle_memory(immortal=True)
"""
    done = subprocess.run([sys.executable, "-c", script], env=os.environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


SPENT = """
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
    assert in_a_fresh_process(SPENT.format(keep="malloc.keep_free_pages()")) == "True True True"
    # Without it malloc keeps next to nothing, and there is nothing to give back.
    assert in_a_fresh_process(SPENT.format(keep="")) == "False False True"


def test_another_c_library_keeps_what_it_likes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(malloc, "_glibc", lambda: None)
    assert not malloc.give_back_free_pages()
