"""Keeps memory shared between a mold and its workers: what a mold does to its objects before its first fork.

The kernel copies a shared page for the worker that first writes to it. CPython writes to objects that it only reads:
it counts references, and the garbage collector marks objects. The heap of malloc is the subject of `malloc`. Figures
for each measure: docs/performance.md, "Memory". Never imports asyncio.
"""

from __future__ import annotations

import gc
import sys
import types

from starman.process.worker.malloc import fill_malloc_holes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ctypes import c_uint32

# CPython 3.12 and 3.13 stop counting the references of an object when the lower half of the count has this value (PEP
# 683, "immortal objects").
_IMMORTAL = 0xFFFF_FFFF
_IMMORTAL_VERSIONS = ((3, 12), (3, 13))

# Types of objects that hold no resource and run no code when they are freed, so that it makes no difference if they
# never are.
_INERT = frozenset(
    {
        *(str, bytes, int, float, complex, property, staticmethod, classmethod),
        *(types.CodeType, types.GetSetDescriptorType, types.MemberDescriptorType),
        *(types.MethodDescriptorType, types.WrapperDescriptorType, types.ClassMethodDescriptorType),
    }
)
# A longer str or bytes (in characters or bytes) is data. The application may drop it one day, and its memory is then
# freed.
_LONGEST_CONSTANT = 4096
# Types whose referents are immortalized too: `gc.get_referents` is safe for them. Modules of C code are left out: on
# CPython 3.12.1 and 3.13.0 their lists of free objects are taken for live objects (python/cpython#122695).
_CONTAINERS = frozenset(
    {dict, list, tuple, set, frozenset, types.FunctionType, types.CodeType, property, staticmethod, classmethod}
)

# CPython's allocator of small objects has pools of 16 KiB. Each pool serves one size, a multiple of 16 bytes up to
# 512, and begins with a header of 48 bytes.
_POOL_BYTES = 16_384
_POOL_HEADER_BYTES = 48
_SIZES = range(48, 513, 16)
_BYTES_HEADER = 33  # of a bytes object, with its closing NUL
# The most bytes of filling for each size; 15 kB were seen. With another allocator no block is ever the first of a
# pool.
_MOST_FILLING = 65_536
# Keeps the filling alive. `settle_memory` adds to it, in the main thread of a mold.
_filling: list[list[bytes]] = []


def settle_memory(*, immortal: bool) -> None:
    """Collect garbage, and keep workers from writing to the objects that are left. Call it once, before the first
    fork.

    The collectors of this process and of its workers ignore the objects from now on (`gc.freeze`); the thresholds of
    the collectors stay as they are. With `immortal`, constants are immortalized where the interpreter allows it. Holes
    between live objects are filled, so that the new objects of a worker get pages of their own. Main thread.
    """
    gc.collect()
    if immortal:
        immortalize_constants()
    fill_malloc_holes()
    _filling.append(_fill_pool_holes())
    gc.freeze()


def _can_immortalize() -> bool:
    """Whether objects of this interpreter have the layout that `immortalize_constants` writes to."""
    return (
        sys.implementation.name == "cpython"
        and sys.version_info[:2] in _IMMORTAL_VERSIONS
        and sys.platform == "linux"
        and sys.byteorder == "little"
        and sys.maxsize > 2**32
        and "t" not in sys.abiflags  # free-threaded builds have other objects and other counts
        and not hasattr(sys, "getobjects")  # builds that trace references have a longer object header
    )


def immortalize_constants() -> None:
    """Stop the interpreter from counting references to code, names, constants, plain functions, classes and modules.

    Instances, closures, bound methods and containers stay as they are: when an application drops a connection, it is
    closed. Does nothing on interpreters other than CPython 3.12 and 3.13.
    """
    if not _can_immortalize():
        return
    try:
        from ctypes import c_uint32
    except ImportError:  # CPython was built without ctypes
        return

    # `gc.get_objects` leaves out frozen objects. Those belong to the process that this one was forked from, as do
    # their pages.
    for item in gc.get_objects():
        kind = type(item)
        if kind in _INERT or _is_plain(item, kind):
            _immortalize(item, c_uint32)
        if kind in _CONTAINERS or kind is type:
            for part in gc.get_referents(item):
                if type(part) in _INERT and not gc.is_tracked(part):
                    _immortalize(part, c_uint32)


def _immortalize(item: object, word: type[c_uint32]) -> None:
    if isinstance(item, str | bytes) and len(item) > _LONGEST_CONSTANT:
        return
    count = word.from_address(id(item))
    if count.value == _IMMORTAL:  # writing the same value again would copy the page
        return
    count.value = _IMMORTAL
    if isinstance(item, types.CodeType):  # the garbage collector does not see the parts of a code object
        for part in (item.co_consts, item.co_names, item.co_name, item.co_qualname, item.co_filename):
            _immortalize(part, word)
    elif isinstance(item, tuple):
        for part in item:
            if type(part) in _INERT or (type(part) is tuple and _is_inert(part)):
                _immortalize(part, word)


def _is_inert(item: tuple[object, ...]) -> bool:
    # Not isinstance: it reads `__class__`, where a lazy object of the application may run code and raise.
    return all(type(part) in _INERT or part is None or issubclass(type(part), (bool, type)) for part in item)


def _is_plain(item: object, kind: type) -> bool:
    """Whether `item` is a class, a module, a tuple of constants, or a function that refers to nothing but its module
    and constants.

    A module that the application drops would not be freed anyway: each of its plain functions keeps the globals.
    """
    if kind is tuple:
        assert isinstance(item, tuple)
        return _is_inert(item)
    if kind is types.BuiltinFunctionType:
        return issubclass(type(getattr(item, "__self__", None)), (types.ModuleType, type, type(None)))
    if kind is types.FunctionType:
        assert isinstance(item, types.FunctionType)
        defaults = (*(item.__defaults__ or ()), *(item.__kwdefaults__ or {}).values())
        return item.__closure__ is None and _is_inert(defaults)
    return kind is types.ModuleType or issubclass(kind, type)


def _fill_pool_holes() -> list[bytes]:
    """Constants that fill the free places between small live objects, until each size begins a new pool: about 250 kB.

    Without them the first objects of a worker would be put into these places, one on each of many shared pages.
    """
    filling: list[bytes] = []
    for size in _SIZES:
        for _ in range(_MOST_FILLING // size):
            block = bytes(size - _BYTES_HEADER)
            if id(block) % _POOL_BYTES == _POOL_HEADER_BYTES:
                break
            filling.append(block)
    return filling
