"""Disconnects a service in a child that the application has forked: there it has neither clients nor a loop.

The child has one thread, the one that called fork. Locks that other threads held at that moment stay locked. The loop
belongs to the parent: its descriptors are shared, so a call of the loop in the child would act in the parent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starman.serving.sending.writer_state import DEAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.context import ServiceContext


class NoLoop(asyncio.AbstractEventLoop):
    """Replaces the loop, and ignores all callbacks."""

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        """Does nothing."""

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        """Does nothing."""


def abandon_clients(context: ServiceContext) -> None:
    """Make each running call end at its next send, read or return. Sets private attributes, because methods take
    locks."""
    context.access_log = None
    context.executor._loop = NoLoop()  # type: ignore[abstract]
    for client in context.connections:
        # A TLS handshake and a lost connection have no writer.
        writer: Any = getattr(client, "_writer", None)
        if writer is None:
            continue
        writer._lock._at_fork_reinit()
        # The loop does not feed a streamed body in the child.
        stream = getattr(writer.running, "_stream", None)
        if stream is not None:
            stream.fail_after_fork()
        writer.state = DEAD
        writer.running = None


def descriptors_of(loop: Any) -> list[int]:
    """Return the descriptor of the loop's epoll or kqueue."""
    if hasattr(loop, "_get_backend_id"):  # uvloop
        return [loop._get_backend_id()]
    selector: Any = getattr(loop, "_selector", None)
    return [selector.fileno()] if hasattr(selector, "fileno") else []
