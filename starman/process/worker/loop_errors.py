"""Writes errors of a worker's event loop, such as an exception in a callback, to the error log.

By default, asyncio logs them with the logging package, which writes to standard error and blocks while its reader is
slow. A worker's loop must not block. If the application has configured logging, its handlers get the errors as usual.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from starman import log
from starman.log.tracebacks import format_exception


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log one error. For `loop.set_exception_handler`. Loop only."""
    if logging.getLogger("asyncio").hasHandlers():
        loop.default_exception_handler(context)
        return
    error = context.get("exception")
    details = "" if error is None else f"\n{format_exception(error)}"
    log.error(f"the event loop reports: {context.get('message', 'an error')}{details}")
