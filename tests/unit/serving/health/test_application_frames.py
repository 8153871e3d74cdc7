"""starman.serving.health.application_frames: the line of the application, and its stack."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Queue, SimpleQueue
from types import FrameType
from typing import Any

from starman.serving.health.application_frames import (
    MOST_INNER,
    MOST_OUTER,
    application_frames,
    current_line,
    format_frames,
)


@contextmanager
def frames_of(call: Callable[[Any], object], release: Any = None) -> Iterator[list[FrameType]]:
    """The frames of a thread that runs `call` with a queue, once its innermost function is called `wait`."""
    release = release or SimpleQueue()
    thread = threading.Thread(target=call, args=(release,))
    thread.start()
    assert thread.ident is not None
    frames: list[FrameType] = []
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and not (frames and frames[-1].f_code.co_name == "wait"):
        frames = application_frames(thread.ident)
    try:
        yield frames
    finally:
        release.put(None)
        thread.join()


def wait(release: SimpleQueue[Any]) -> None:
    release.get()


def descend(release: SimpleQueue[Any], depth: int) -> None:
    if depth:
        descend(release, depth - 1)
    else:
        wait(release)


def compiled_as(source: str, path: str, module: str) -> Callable[[SimpleQueue[Any]], object]:
    names: dict[str, Any] = {"__name__": module, "wait": wait}
    exec(compile(source, path, "exec"), names)
    call: Callable[[SimpleQueue[Any]], object] = names["call"]
    return call


def test_the_innermost_line_of_the_application_is_found() -> None:
    with frames_of(wait) as frames:
        assert current_line(frames) == f"{__file__}:{wait.__code__.co_firstlineno + 1} in wait"
        assert [frame.f_code.co_name for frame in frames] == ["wait"]  # not those of `threading`
    with frames_of(wait, Queue()) as frames:
        assert frames[-1].f_code.co_filename == threading.__file__
        assert current_line(frames) == f"{__file__}:{wait.__code__.co_firstlineno + 1} in wait"


def test_frames_of_starman_do_not_count() -> None:
    with frames_of(compiled_as("def call(release):\n    wait(release)\n", "/starman/x.py", "starman.x")) as frames:
        assert [frame.f_code.co_name for frame in frames] == ["wait"]


def test_without_an_application_the_library_is_named() -> None:
    source = "def call(release):\n    release.get()\n\ncall.__code__ = call.__code__.replace(co_name='wait')"
    with frames_of(compiled_as(source, threading.__file__.replace("threading", "queue"), "queue")) as frames:
        assert current_line(frames).endswith("/queue.py:2 in wait")
    assert current_line([]) == ""


def test_names_stay_in_one_line() -> None:
    source = "def call(release):\n    release.get()\n\ncall.__code__ = call.__code__.replace(co_name='wait')"
    with frames_of(compiled_as(source, "/srv/a\nb.py", "shop")) as frames:
        assert current_line(frames) == "/srv/a\\nb.py:2 in wait"
        assert format_frames(frames) == 'File "/srv/a\\nb.py", line 2, in wait'


def test_the_middle_of_a_deep_stack_is_left_out() -> None:
    with frames_of(lambda release: descend(release, 99)) as frames:
        lines = format_frames(frames).splitlines()
    assert len(lines) == MOST_OUTER + MOST_INNER + 1
    assert lines[MOST_OUTER] == f"... {102 - MOST_OUTER - MOST_INNER} calls left out ..."
    assert lines[-1].endswith("in wait")
    assert format_frames([]) == "(no frame of the application)"


def test_a_thread_that_has_ended_has_no_frames() -> None:
    assert application_frames(-1) == []
