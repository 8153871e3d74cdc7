"""Starts starman with one of its memory tricks switched off: `python -m bench.without TRICK OPTION...`.

The functions are replaced before the server imports what uses them. TRICK "nothing" switches nothing off.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from starman import cli
from starman.process.worker import copy_on_write, malloc


def main() -> int | None:
    """Be starman, with the command line that stands behind the trick."""
    trick, *arguments = sys.argv[1:]
    TRICKS[trick]()
    sys.argv[1:] = arguments
    return cli.main()


def _nothing() -> None:
    pass


def _gc_freeze() -> None:
    gc.freeze = _nothing


def _immortal_objects() -> None:
    copy_on_write._can_immortalize = lambda: False


def _pool_holes() -> None:
    copy_on_write._fill_pool_holes = list


def _malloc_holes() -> None:
    vars(copy_on_write)["fill_malloc_holes"] = lambda: 0


def _kept_pages() -> None:
    malloc.keep_free_pages = lambda: False


def _idle_trim() -> None:
    malloc.give_back_free_pages = lambda: False


# By name: what switches the trick off.
TRICKS: dict[str, Callable[[], None]] = {
    "nothing": _nothing,
    "gc-freeze": _gc_freeze,
    "immortal-objects": _immortal_objects,
    "pool-holes": _pool_holes,
    "malloc-holes": _malloc_holes,
    "kept-pages": _kept_pages,
    "idle-trim": _idle_trim,
}

if __name__ == "__main__":
    sys.exit(main())
