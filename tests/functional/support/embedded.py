"""A program that serves in its own event loop: `python -m tests.functional.support.embedded LOOP SETTINGS`, with
the settings as JSON.

It answers /hold when the file that EMBEDDED_HOLD names is gone, and fails at /fail. It prints a line when `serve`
has returned.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from typing import Any

import uvloop

import starman


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """As the module says."""
    if environ["PATH_INFO"] == "/hold":
        print("holding", flush=True)
        while os.path.exists(os.environ["EMBEDDED_HOLD"]):
            time.sleep(0.01)
    elif environ["PATH_INFO"] == "/fail":
        raise LookupError("in the application")
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]


async def main() -> None:
    """Serve until a signal or an error ends it."""
    await starman.serve(app, listen="127.0.0.1:0", **json.loads(sys.argv[2]))
    print("after", flush=True)


async def in_a_task() -> None:
    """As `main`, in a task that the main task waits for."""
    await asyncio.create_task(main())


async def run_in_loop() -> None:
    """Start a master inside of a loop, which must be refused."""
    starman.run(app, listen="127.0.0.1:0")


if __name__ == "__main__":
    if sys.argv[1] == "uvloop":
        uvloop.run(main())
    else:
        asyncio.run({"asyncio": main, "task": in_a_task, "run": run_in_loop}[sys.argv[1]]())
    print("ended", flush=True)
    starman.log.info("a line after the end")
