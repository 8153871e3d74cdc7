"""Makes a dump of all threads' stacks by `faulthandler` readable.

The threads that run application code come first, and all threads that wait for work are one line. Pure: text in, text
out.
"""

from __future__ import annotations

import os
import re

_THREAD = re.compile(r"(?:Current thread|Thread) (0x[0-9a-f]+).*")
_FRAME = re.compile(r'  File "(?P<path>.*)", line (?P<line>\d+|\?\?\?) in (?P<function>.*)')
_OWN = os.path.abspath(__file__).removesuffix(os.path.join("process", "worker", "stacks.py"))

# The modules of frames that call the application, and of threads that wait for work.
_BELOW = re.compile(r"(?:^|/)(?:threading|queue|selectors|runpy)\.py$|/(?:asyncio|anyio|uvloop|concurrent/futures)/|^<frozen ")
# Frames that only wait for their callers.
_WAITING = re.compile(
    r"(?:^|/)(?:threading|queue|selectors)\.py$|/uvloop/_noop\.py$|starman/process/(?:channel|master/signals)\.py$"
)
# Frames of the signal handler that writes the dump. They are above whatever the main thread was doing.
_WRITING = re.compile(r"starman/process/worker/stack_dumps\.py$")
# Threads that wait for work: the end of the frame's path, functions in that file (None: any), and the words for one
# thread and for several.
_IDLE: tuple[tuple[str, set[str] | None, str, str], ...] = (
    ("/asyncio/runners.py", {"run"}, "the event loop (waiting, or in native code)", "event loops"),
    ("/anyio/_core/_eventloop.py", {"run"}, "the event loop (waiting, or in native code)", "event loops"),
    ("/uvloop/__init__.py", {"run"}, "the event loop (waiting, or in native code)", "event loops"),
    ("starman/serving/executors/pool.py", {"_park"}, "the event loop (waiting for a thread)", "event loops"),
    ("starman/serving/executors/pool.py", {"_work", "_work_down", "_sleep"}, "1 thread of the pool", "{} threads of the pool"),
    (
        "starman/serving/accepting/exclusive_epoll.py",
        None,
        "the thread that waits for connections",
        "{} threads that wait for connections",
    ),
    ("/anyio/_backends/_asyncio.py", {"run"}, "1 thread of anyio", "{} threads of anyio"),
    ("/concurrent/futures/thread.py", {"_worker"}, "1 thread of an executor", "{} threads of executors"),
    ("starman/process/worker/mold.py", {"run_orders", "_next_order"}, "the mold, which waits for orders", "molds"),
    ("starman/process/worker/hook_process.py", {"_run_events"}, "the hook process, which waits for events", "hook processes"),
    ("starman/process/worker/hook_process.py", {"wait"}, "the thread that waits for the end of the master", "{} such threads"),
    ("starman/process/master/links.py", {"wait_for_messages"}, "the master, which waits for events", "masters"),
)


class DumpedThread:
    """A thread of a dump that does not wait for work. ident: its identifier (`threading.get_ident`). current: whether
    it is the one that wrote the dump: the main thread. frames: file, line and function of each call, the innermost
    first, without those of starman that call the application."""

    __slots__ = ("current", "frames", "ident")

    def __init__(self, ident: int, frames: list[tuple[str, int, str]], *, current: bool) -> None:
        self.ident = ident
        self.frames = frames
        self.current = current


class _Thread:
    """One thread of a dump. head: its first line. frames: its other lines, the innermost call first."""

    __slots__ = ("frames", "head")

    def __init__(self, head: str) -> None:
        self.head = head
        self.frames: list[str] = []

    def add(self, line: str) -> None:
        """Add the next line, unless it is a frame of the handler that writes the dump."""
        found = None if self.frames else _FRAME.fullmatch(line)
        if found is None or not _WRITING.search(found["path"]):
            self.frames.append(line)

    def idle(self) -> tuple[str, str] | None:
        """The words for one such thread, and for several, if the thread waits for work. None: it works, or may
        work."""
        places = [(found["path"], found["function"]) for found in map(_FRAME.fullmatch, self.frames) if found]
        while len(places) > 1 and _WAITING.search(places[0][0]):
            del places[0]
        if not places:
            return None
        path, function = places[0]
        for end, functions, one, several in _IDLE:
            if path.endswith(end) and (functions is None or function in functions):
                return one, several
        if all(os.path.basename(path) == "threading.py" for path, _ in places):
            # Compiled modules have no frames.
            return "1 thread without Python frames", "{} threads without Python frames"
        return None

    def application_frames(self) -> int:
        """How many frames there are up to the outermost one of the application; 0: none is the application's."""
        count = 0
        for number, frame in enumerate(self.frames, 1):
            found = _FRAME.fullmatch(frame)
            if found and not (found["path"].startswith(_OWN) or _BELOW.search(found["path"])):
                count = number
        return count

    def lines(self) -> list[str]:
        """The thread's lines, without the frames of starman that call the application."""
        count = self.application_frames()
        return [self.head, *(self.frames[:count] if count else self.frames)]


def arrange_stacks(dump: str) -> str:
    """The stacks in `dump`, in this order: lines outside a thread, threads that run application code, other threads,
    and one line for the threads that wait for work. If `dump` has several stacks of a thread, the last one is used."""
    others, threads = _split(dump)
    lines = [*others, *(line for each in _busy(threads) for line in each.lines())]
    waiting = _waiting_words(threads)
    if waiting:
        lines.append(f"waiting for work: {', '.join(waiting)}")
    return "\n".join(lines)


def read_dump(dump: str) -> tuple[list[DumpedThread], list[str]]:
    """The threads in `dump` that do not wait for work, those with application code first, and words for the others."""
    _, threads = _split(dump)
    found = []
    for each in _busy(threads):
        head = _THREAD.fullmatch(each.head)
        assert head is not None
        frames = [
            (frame["path"], int(frame["line"]) if frame["line"].isdecimal() else 0, frame["function"])
            for frame in map(_FRAME.fullmatch, each.lines()[1:])
            if frame is not None
        ]
        found.append(DumpedThread(int(head[1], 16), frames, current=each.head.startswith("Current")))
    return found, _waiting_words(threads)


def _split(dump: str) -> tuple[list[str], list[_Thread]]:
    """The lines outside a thread, and the threads."""
    others: list[str] = []
    threads: dict[str, _Thread] = {}
    thread: _Thread | None = None
    for line in dump.splitlines():
        head = _THREAD.fullmatch(line)
        if head:
            thread = threads[head[1]] = _Thread(line)
        elif thread is not None and line.startswith("  "):
            thread.add(line)
        elif line:
            thread = None
            if line not in others:
                others.append(line)
    return others, list(threads.values())


def _busy(threads: list[_Thread]) -> list[_Thread]:
    return sorted((each for each in threads if each.idle() is None), key=lambda each: not each.application_frames())


def _waiting_words(threads: list[_Thread]) -> list[str]:
    kinds: dict[tuple[str, str], int] = {}
    for each in threads:
        kind = each.idle()
        if kind is not None:
            kinds[kind] = kinds.get(kind, 0) + 1
    return [one if count == 1 else several.format(count) for (one, several), count in kinds.items()]
