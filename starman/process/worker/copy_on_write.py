"""Keeps memory shared: what a mold does last before it forks, so that its workers write to as few of its pages as can be.

A page is copied for the worker that first writes to it, and CPython writes to objects that it only looks at: their count of
references, and the collector its marks. Malloc's heap is the matter of `pages`. Measured: docs/performance.md, "Memory".
"""

from __future__ import annotations

import gc
import sys
import types

from starman.process.worker.malloc import fill_malloc_holes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import c_uint32

# The lower half of a count of references that CPython 3.12 and 3.13 leave alone (PEP 683, "immortal objects").
_IMMORTAL = 0xFFFF_FFFF
_IMMORTAL_VERSIONS = ((3, 12), (3, 13))

# Objects whose end nobody could notice: it closes nothing, and runs nobody's code.
_INERT = frozenset(
    {
        *(str, bytes, int, float, complex, property, staticmethod, classmethod),
        *(types.CodeType, types.GetSetDescriptorType, types.MemberDescriptorType),
        *(types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType),
    }
)
# Longer ones (in characters or bytes) are data, which may be dropped one day, and then gives its memory back.
_LONGEST_CONSTANT = 4096
# What is looked into for more: `gc.get_referents` is safe there. Not in a module of C code, whose list of free objects it takes
# for live ones on CPython 3.12.1 and 3.13.0 (python/cpython#122695).
_CONTAINERS = frozenset(
    {dict, list, tuple, set, frozenset, types.FunctionType, types.CodeType, property, staticmethod, classmethod}
)


# CPython's allocator of small objects: pools of 16 KiB, each for one size, a multiple of 16 up to 512, behind a head of 48 bytes.
_POOL_BYTES = 16_384
_POOL_HEAD_BYTES = 48
_SIZES = range(48, 513, 16)
_BYTES_HEAD = 33  # of a bytes object, its closing NUL included
# At most, for each size; 15 kB were seen. With another allocator, a fresh pool is never met.
_MOST_FILLING = 65_536
_filling: list[list[bytes]] = []


def settle() -> None:
    """Collect garbage, and make what is left as constant as the interpreter allows. Call once, before the first fork.

    Frozen: the collectors of this process and of its workers never look at it again (`gc.freeze`); the workers' collect what they
    make themselves, with the thresholds as they were. Immortal, where that can be: see `immortalize`. Without holes, so that what
    workers make fills pages of their own. Main thread.
    """
    gc.collect()
    immortalize()
    fill_malloc_holes()
    _filling.append(_fill_holes())
    gc.freeze()


def _can_immortalize() -> bool:
    """Whether this interpreter has the layout of objects that `immortalize` writes to."""
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] in _IMMORTAL_VERSIONS
        and sys.platform == "linux"
        and sys.byteorder == "little"
        and sys.maxsize > 2**32
        and "t" not in sys.abiflags  # free-threaded: another layout, and other counts
        and not hasattr(sys, "getobjects")  # built to trace references: objects begin with something else
    )


def immortalize() -> None:
    """Have the interpreter stop counting the references of everything inert: code, names, constants, functions, classes.

    Not of instances, closures, bound methods or containers: what an application drops is finalized as ever, a connection closed.
    """
    if not _can_immortalize():
        return
    try:
        from ctypes import c_uint32
    except ImportError:  # CPython can be built without
        return

    # What was frozen before is not among them. It belongs to a process that this one was forked from, and its pages with it.
    for item in gc.get_objects():
        kind = type(item)
        if kind in _INERT or _is_plain(item, kind):
            _fix(item, c_uint32)
        if kind in _CONTAINERS or kind is type:
            for part in gc.get_referents(item):
                if type(part) in _INERT and not gc.is_tracked(part):
                    _fix(part, c_uint32)


def _fix(item: object, word: type[c_uint32]) -> None:
    if isinstance(item, str | bytes) and len(item) > _LONGEST_CONSTANT:
        return
    count = word.from_address(id(item))
    if count.value == _IMMORTAL:  # to write the same again would copy the page, too
        return
    count.value = _IMMORTAL
    if isinstance(item, types.CodeType):  # which hides its parts from the collector
        for part in (item.co_consts, item.co_names, item.co_name, item.co_qualname, item.co_filename):
            _fix(part, word)
    elif isinstance(item, tuple):
        for part in item:
            if type(part) in _INERT or (type(part) is tuple and _is_inert(part)):
                _fix(part, word)


def _is_inert(item: tuple[object, ...]) -> bool:
    return all(type(part) in _INERT or part is None for part in item)


def _is_plain(item: object, kind: type) -> bool:
    """Whether it is a class, a function that holds nothing but its module, or a tuple of constants."""
    if kind is tuple:
        assert isinstance(item, tuple)
        return _is_inert(item)
    if kind is types.BuiltinFunctionType:
        return isinstance(getattr(item, "__self__", None), (types.ModuleType, type, type(None)))
    if kind is types.FunctionType:
        assert isinstance(item, types.FunctionType)
        return item.__closure__ is None and not item.__defaults__ and not item.__kwdefaults__
    return isinstance(item, type)


def _fill_holes() -> list[bytes]:
    """Constants that fill the free places between live small objects: until each size begins a fresh pool. About 250 kB.

    A worker's first objects would be put into these holes, one on each of many shared pages.
    """
    filling: list[bytes] = []
    for size in _SIZES:
        for _ in range(_MOST_FILLING // size):
            block = bytes(size - _BYTES_HEAD)
            if id(block) % _POOL_BYTES == _POOL_HEAD_BYTES:
                break
            filling.append(block)
    return filling
