"""starman.process.worker.stacks: makes dumps of `faulthandler` readable."""

from __future__ import annotations

import faulthandler
import os
import queue
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

import starman
from starman.process.master.stack_pipe import open_pipe
from starman.process.worker.stacks import _IDLE, arrange_stacks, read_dump

OWN = os.path.dirname(starman.__file__)
LIB = "/usr/lib/python3.12"


def frame(path: str, function: str, line: int = 7) -> str:
    return f'  File "{path}", line {line} in {function}'


BOOTSTRAP = [frame(f"{LIB}/threading.py", name) for name in ("run", "_bootstrap_inner", "_bootstrap")]
POOL = [frame(f"{OWN}/serving/executors/pool.py", "_work"), *BOOTSTRAP]
LOOP = [frame(f"{LIB}/asyncio/runners.py", "run"), frame(f"{LIB}/site-packages/anyio/_backends/_asyncio.py", "run")]
RUNNING = [frame(f"{OWN}/wsgi/call.py", "run"), frame(f"{OWN}/serving/executors/pool.py", "_run"), *POOL]


def dump(*threads: list[str], current: int = -1) -> str:
    heads = [
        f"{'Current thread' if n == current else 'Thread'} 0x{n:016x} (most recent call first):" for n in range(len(threads))
    ]
    return "\n\n".join("\n".join([head, *frames]) for head, frames in zip(heads, threads, strict=True)) + "\n"


def test_application_frames_come_first_and_idle_threads_are_one_line() -> None:
    application = [
        frame(f"{LIB}/socket.py", "recv"),
        frame("/srv/shop/report.py", "totals"),
        frame("/venv/flask/app.py", "__call__"),
    ]
    ours = [frame(f"{OWN}/serving/connection.py", "data_received"), *LOOP]
    accepting = f"{OWN}/serving/accepting/exclusive_epoll.py"
    text = arrange_stacks(dump(POOL, ours, POOL, [*application, *RUNNING], [frame(accepting, "_wait"), *BOOTSTRAP]))
    assert text.splitlines() == [
        "Thread 0x0000000000000003 (most recent call first):",
        *application,
        "Thread 0x0000000000000001 (most recent call first):",
        *ours,
        "waiting for work: 2 threads of the pool, the thread that waits for connections",
    ]


def test_of_several_dumps_each_thread_is_shown_once() -> None:
    """They cannot be told apart when they come at the same time."""
    first, second = frame("/srv/app.py", "first"), frame("/srv/app.py", "second")
    text = arrange_stacks(dump(POOL, [first, *RUNNING]) + dump([second, *RUNNING], POOL, current=0))
    assert text.splitlines() == [
        "Current thread 0x0000000000000000 (most recent call first):",
        second,
        "waiting for work: 1 thread of the pool",
    ]


def test_what_is_about_no_thread_is_kept() -> None:
    threads = dump([frame("/srv/app.py", "app")], LOOP, current=0)
    text = f"Fatal Python error: Segmentation fault\n\n{threads}\nExtension modules: a, b (total: 2)\n"
    assert arrange_stacks(text).splitlines() == [
        "Fatal Python error: Segmentation fault",
        "Extension modules: a, b (total: 2)",
        "Current thread 0x0000000000000000 (most recent call first):",
        frame("/srv/app.py", "app"),
        "waiting for work: the event loop (waiting, or in native code)",
    ]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        "rubbish",
        "  File",
        'Thread 0x1\n  File "x", line 1',
        "Thread 0x1 (most recent call first):\n  <no Python frame>",
    ],
)
def test_anything_else_stays_as_it_is(text: str) -> None:
    assert arrange_stacks(text).split() == text.split()


def _get(work: queue.Queue[None]) -> None:
    work.get()


@contextmanager
def idle_threads() -> Iterator[None]:
    """A thread of an executor, and a thread that waits for a queue in a function of its own."""
    work: queue.Queue[None] = queue.Queue()
    waiter = threading.Thread(target=_get, args=(work,))
    with ThreadPoolExecutor(1) as executor:
        executor.submit(int).result()
        waiter.start()
        try:
            yield
        finally:
            work.put(None)
            waiter.join()


def test_a_real_dump() -> None:
    reader, writing = open_pipe()
    with idle_threads():
        faulthandler.dump_traceback(writing)
        assert reader.read()
    os.close(writing)
    assert not reader.read()
    reader.close()
    text = arrange_stacks(reader.take_text())
    assert "waiting for work: 1 thread of an executor" in text
    assert f'File "{__file__}"' in text
    assert "_bootstrap" not in text


def test_the_functions_in_which_threads_wait_exist() -> None:
    """A renamed module or function would silently make its waiting threads count as working."""
    root = Path(OWN).parent
    for path, functions, _, _ in _IDLE:
        if path.startswith("starman/"):
            source = (root / path).read_text("utf-8")
            assert [name for name in functions or () if f"def {name}(" not in source] == [], path


def test_a_dump_is_read_into_threads_and_words() -> None:
    busy = 'Thread 0x00000000000000ff (most recent call first):\n  File "/srv/app.py", line 7 in view\n'
    own = 'Current thread 0x0000000000000010 [starman] (most recent call first):\n  File "/srv/hook.py", line ??? in beat\n'
    idle = 'Thread 0x0000000000000011 (most recent call first):\n  File "/x/starman/serving/executors/pool.py", line 1 in _work\n'
    threads, waiting = read_dump(busy + idle + own)
    assert [(thread.ident, thread.current, thread.frames) for thread in threads] == [
        (255, False, [("/srv/app.py", 7, "view")]),
        (16, True, [("/srv/hook.py", 0, "beat")]),
    ]
    assert waiting == ["1 thread of the pool"]
