"""Sends reports of a worker's event loop, such as an exception in a callback, to the error log.

By default asyncio logs them with the logging package, which prints to standard error and may wait for its reader. A worker's loop
must not wait. If the application has configured logging, its handlers get the reports as usual.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starman import log
from starman.log.tracebacks import formatted


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """An exception handler, for `loop.set_exception_handler`. Loop only."""
    if logging.getLogger("asyncio").hasHandlers():
        loop.default_exception_handler(context)
        return
    error = context.get("exception")
    details = "" if error is None else f"\n{formatted(error)}"
    log.error(f"the event loop reports: {context.get('message', 'an error')}{details}")
