"""starman inside an event loop that does other things too: `python examples/embed_serve.py [LISTENER]`.

`starman.serve` runs one worker in the caller's own loop, without forking, and leaves signals alone: cancel it, and it
finishes what is in flight. The application runs in the worker's threads, so it may read what the other task writes.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterable
from typing import Any

import starman

ticks = 0


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Return how often the other task has run."""
    body = f"{ticks} ticks so far\n".encode()
    start_response("200 OK", [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))])
    return [body]


async def tick() -> None:
    """The other task: count, ten times a second."""
    global ticks  # noqa: PLW0603 - one number is all that the tasks share
    while True:
        await asyncio.sleep(0.1)
        ticks += 1


async def main() -> None:
    """Run both until a signal ends the server."""
    ticking = asyncio.create_task(tick())
    serving = asyncio.create_task(starman.serve(app, listen=sys.argv[1:] or ["127.0.0.1:5000"], threads=4))
    # Not SIGINT: asyncio.run itself cancels the main task at Ctrl-C, and so the server.
    for signum in (signal.SIGTERM, signal.SIGQUIT):
        asyncio.get_running_loop().add_signal_handler(signum, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    ticking.cancel()


if __name__ == "__main__":
    asyncio.run(main())
