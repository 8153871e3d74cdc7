"""What a worker's event loop reports by itself, such as an exception in a callback: it goes to the error log.

asyncio would log it with the logging package, which by default prints it to standard error, and waits for the reader of that. A
worker's loop must not wait. Where the application has configured logging, its handlers get it as ever.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starman import log
from starman.tracebacks import formatted


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler, for `loop.set_exception_handler`. Loop only."""
    if logging.getLogger("asyncio").hasHandlers():
        loop.default_exception_handler(context)
        return
    error = context.get("exception")
    details = "" if error is None else f"\n{formatted(error)}"
    log.error(f"the event loop reports: {context.get('message', 'an error')}{details}")
