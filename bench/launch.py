"""Starts servers that have no suitable command line: `python -m bench.launch SERVER MODULE:NAME PORT`."""

from __future__ import annotations

import gc
import importlib
import os
import sys
from typing import Any


def main() -> int:
    """Serve until a signal ends it."""
    name, application, port = sys.argv[1:]
    LAUNCHERS[name](load(application), int(port))
    return 0


def load(application: str) -> Any:
    """The object that "module:name" names."""
    module, _, name = application.partition(":")
    return getattr(importlib.import_module(module), name)


def asgi() -> Any:
    """The application for uvicorn: the one that BENCH_APPLICATION names, on BENCH_THREADS threads."""
    from a2wsgi import WSGIMiddleware

    return WSGIMiddleware(load(os.environ["BENCH_APPLICATION"]), workers=int(os.environ["BENCH_THREADS"]))


def _bjoern(application: Any, port: int) -> None:
    import bjoern

    bjoern.run(application, "127.0.0.1", port, listen_backlog=2048)


def _fastwsgi(application: Any, port: int) -> None:
    import fastwsgi

    fastwsgi.server.backlog = 2048
    fastwsgi.run(application, "127.0.0.1", port)


def _plain_pool(application: Any, port: int) -> None:
    """Starman without parking of the loop and without holding responses back, on BENCH_THREADS threads."""
    import uvloop

    import starman

    gc.collect()
    gc.freeze()  # as a worker does
    uvloop.run(starman.serve(application, listen=f"127.0.0.1:{port}", threads=int(os.environ["BENCH_THREADS"])))


LAUNCHERS = {"bjoern": _bjoern, "fastwsgi": _fastwsgi, "plain-pool": _plain_pool}

if __name__ == "__main__":
    sys.exit(main())
