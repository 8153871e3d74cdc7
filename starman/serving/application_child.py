"""A service in a child that the application has forked: it has no clients there, and no loop.

The child has one thread, the one that has forked. Locks that other threads held at that moment stay held. The loop belongs to the
parent: its descriptors are context, so a call into it would act in the parent.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starman.serving.sending.writer_state import DEAD

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.serving.context import ServiceContext


class NoLoop(asyncio.AbstractEventLoop):
    """Replaces the loop, and drops all callbacks that are posted to it."""

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> Any:  # type: ignore[override]
        """Nothing."""

    def call_soon_threadsafe(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Any = None
    ) -> Any:
        """Nothing."""


def abandon_clients(context: ServiceContext) -> None:
    """Make each call under way end at its next send, read or return. Changes private attributes, because methods take locks."""
    context.access_log = None
    context.executor._loop = NoLoop()  # type: ignore[abstract]
    for client in context.connections:
        # A handshake, or a connection that is lost, has none.
        writer: Any = getattr(client, "_writer", None)
        if writer is None:
            continue
        writer._lock._at_fork_reinit()
        # A streamed body: the loop does not feed it in the child.
        stream = getattr(writer._exchange, "_stream", None)
        if stream is not None:
            stream.break_off()
        writer.turn = DEAD
        writer._exchange = None


def descriptors_of(loop: Any) -> list[int]:
    """The epoll or kqueue descriptor of `loop`."""
    if hasattr(loop, "_get_backend_id"):  # uvloop
        return [loop._get_backend_id()]
    selector: Any = getattr(loop, "_selector", None)
    return [selector.fileno()] if hasattr(selector, "fileno") else []
