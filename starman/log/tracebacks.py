"""Formats exceptions and other objects of an application without raising, whatever the objects do.

Formatting an exception can fail: its `__str__` raises, it has arguments that `traceback` does not expect, its
`__cause__` is a property, or no memory is left. The text then says what is missing. Any thread. Must not import
anything of starman.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    Trim = Callable[[TracebackType | None], TracebackType | None]

# The attributes of an exception that `traceback` reads. A class of the application may have replaced them.
_LINKS = ("__cause__", "__context__", "__suppress_context__", "__traceback__")
# How many exceptions of a chain of causes and contexts are shown.
_MOST_LINKS = 100
# How many characters of an exception's text are searched for its first line.
_MOST_CHARACTERS = 10_000

# Memory that is freed when a MemoryError is handled: 64 kB.
_RESERVE_BLOCK = 400
_RESERVE_BLOCKS = 160
_reserve: list[bytes] = []


def safe_text(value: object) -> str:
    """`str(value)`; the name of its class in angle brackets if that fails. Always a plain str, not of a subclass."""
    try:
        return "".join((str(value),))
    except BaseException:  # SystemExit, too: an application's `__str__` can raise anything
        return f"<{class_name(value)}>"


def class_name(value: object) -> str:
    """The name of the class of `value`, with its module unless that is `builtins`."""
    try:
        cls = type(value)
        name = "".join((type.__dict__["__qualname__"].__get__(cls),))
        module = type.__dict__["__module__"].__get__(cls)
        return name if module == "builtins" else f"{module}.{name}"
    except BaseException:
        return "object"


def exception_line(error: BaseException) -> str:
    """The exception in one line, as at the end of a traceback: `ValueError: too large`."""
    lines = safe_text(error)[:_MOST_CHARACTERS].splitlines()
    return f"{short_class_name(error)}: {lines[0]}" if lines else short_class_name(error)


def short_class_name(error: BaseException) -> str:
    """The name of the class of `error`, without its module."""
    return class_name(error).rpartition(".")[2]


def format_exception(error: BaseException, trim: Trim | None = None) -> str:
    """The traceback of `error`, as Python prints it, with its chain of causes and contexts.

    trim: returns the interesting part of a traceback; each exception of the chain then keeps that part only. If the
    exception cannot be shown whole, the text has its stack, its class, and what failed.
    """
    try:
        import traceback

        ordinary = _prepare(error, trim)
        if ordinary:
            return "".join(traceback.format_exception(error))
        return _in_part(error, "its class has attributes of its own")
    except MemoryError:
        return f"{class_name(error)} (not enough memory to show its traceback)\n"
    except BaseException as failure:
        return _in_part(error, short_class_name(failure))


def free_frames_of(error: BaseException) -> None:
    """If `error` comes from lack of memory, clear the variables of its frames, which may hold all of the memory.

    The traceback can be shown afterwards. Does nothing for any other error. Never raises.
    """
    try:
        if issubclass(type(error), MemoryError):
            _reserve.clear()
        _relieve(error)
        keep_memory_reserve()
    except MemoryError:  # the next error tries again
        return


def keep_memory_reserve() -> None:
    """Reserve memory that `free_frames_of` can free. Raises MemoryError."""
    if not _reserve:
        # Small blocks, of the size of most objects, can be freed without an allocation.
        _reserve.extend(bytes(_RESERVE_BLOCK) for _ in range(_RESERVE_BLOCKS))


def _relieve(error: BaseException) -> None:
    """Clear the frames of `error` and of its contexts, if one of them is a MemoryError.

    Those of all contexts: if handling the first exception failed for lack of memory, the frames of that exception
    hold it.
    """
    if any(issubclass(type(link), MemoryError) for link in _contexts(error)):
        for link in _contexts(error):
            _clear_frames(link)


def _contexts(error: BaseException) -> Iterator[BaseException]:
    """`error`, the exception that was being handled when it was raised, and so on."""
    context = BaseException.__dict__["__context__"]
    link: BaseException | None = error
    for _ in range(_MOST_LINKS):
        if link is None:
            return
        yield link
        link = context.__get__(link)


def _clear_frames(error: BaseException) -> None:
    frames = BaseException.__dict__["__traceback__"].__get__(error)
    while frames is not None:
        try:
            frames.tb_frame.clear()
        except BaseException:  # a frame that still runs cannot be cleared
            frames = frames.tb_next
            continue
        frames = frames.tb_next


def _prepare(error: BaseException, trim: Trim | None) -> bool:
    """Trim the tracebacks of `error` and of its causes and contexts. Returns whether `traceback` can show all of them.

    Uses the descriptors of BaseException: a property of a subclass could make a new exception each time it is read.
    """
    base = BaseException.__dict__
    chain: list[BaseException | None] = [error]
    seen: set[int] = set()
    while chain:
        link = chain.pop()
        if link is None or id(link) in seen:
            continue
        seen.add(id(link))
        if trim is not None:
            _set_traceback(link, trim(base["__traceback__"].__get__(link)))
        chain += (base["__cause__"].__get__(link), base["__context__"].__get__(link))
        own = [cls for cls in type(link).__mro__ if cls is not BaseException]
        if len(seen) > _MOST_LINKS or any(name in vars(cls) for cls in own for name in _LINKS):
            return False
    return True


def _set_traceback(error: BaseException, value: TracebackType | None) -> None:
    BaseException.__dict__["__traceback__"].__set__(error, value)


def _in_part(error: BaseException, why: str) -> str:
    """The stack and the class of `error`, and why the text is incomplete."""
    try:
        import traceback

        frames = "".join(traceback.format_tb(BaseException.__dict__["__traceback__"].__get__(error)))
        stack = f"Traceback (most recent call last):\n{frames}" if frames else ""
    except BaseException:
        stack = ""
    return f"{stack}{exception_line(error)} (incomplete: {why})\n"
