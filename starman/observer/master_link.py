"""The observer's link to the master: sends queries, and gives each answer to all that wait for it."""

from __future__ import annotations

import ast
import asyncio
import os

from starman.process.forking import replace_error_log
from starman.process.long_messages import TextAssembly
from starman.process.messages import Part, Reopen, Reopened
from starman.process.observer_messages import (
    Restart,
    Scale,
    StacksQuery,
    StacksReport,
    StatusQuery,
    StatusReport,
    Stop,
    Trace,
    TraceSource,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from starman.process.channel import Channel
    from starman.process.message_base import Message

# How long (seconds) an answer of the master may take. A dump of stacks takes up to a second.
ANSWER_SECONDS = 5.0


class MasterSilentError(Exception):
    """The master has not answered. The text completes a sentence."""


class MasterLink:
    """The channel to the master. Loop only.

    on_trace_source: called with the descriptor of a socket from which the traced requests of a worker are read.
    """

    __slots__ = ("_assembly", "_channel", "_waiting", "on_trace_source")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._assembly = TextAssembly()
        # The answer that is awaited, by the class of its message. Clients that ask meanwhile get the same one.
        self._waiting: dict[type[Message], asyncio.Future[Any]] = {}
        self.on_trace_source: Callable[[int], None] = os.close

    async def status(self) -> dict[str, Any]:
        """What the master reports (`supervision.report`). Raises MasterSilentError."""
        found: dict[str, Any] = await self._ask(StatusQuery(), StatusReport)
        return found

    async def stacks(self, *, force: bool) -> list[tuple[str, int, int | None, str | None]]:
        """The stacks of all processes (`StackReports.take_collected`). Raises MasterSilentError."""
        found: list[tuple[str, int, int | None, str | None]] = await self._ask(StacksQuery(force=force), StacksReport)
        return found

    def scale(self, workers: int) -> None:
        """Have this number of workers run. Raises ValueError for an impossible number."""
        self._send(Scale.parse([str(workers)]))

    def restart(self) -> None:
        """Restart, as SIGHUP does."""
        self._send(Restart())

    def stop(self) -> None:
        """Stop gracefully, as SIGTERM does."""
        self._send(Stop())

    def trace(self, filters: str) -> None:
        """Have the workers trace the requests that match `filters` (`Trace`). Raises MasterSilentError."""
        self._send(Trace(filters))

    async def _ask(self, query: Message, answer: type[Message]) -> Any:
        waiting = self._waiting.get(answer)
        if waiting is None or waiting.done():
            waiting = self._waiting[answer] = asyncio.get_running_loop().create_future()
            self._send(query)
        try:
            return await asyncio.wait_for(asyncio.shield(waiting), ANSWER_SECONDS)
        except TimeoutError:
            if self._waiting.get(answer) is waiting:
                del self._waiting[answer]
            raise MasterSilentError(f"has not answered for {ANSWER_SECONDS:g} s") from None

    def _send(self, message: Message) -> None:
        if not self._channel.send(message):
            raise MasterSilentError("does not read messages")

    def read(self) -> bool:
        """Read what the master has sent. Returns False at the end of file: the master has ended."""
        try:
            received = self._channel.receive_if_any()
        except (BlockingIOError, InterruptedError):
            return True
        if received is None:
            return False
        message, fds = received
        if isinstance(message, Part):
            self._assembly.add_part(message)
        elif isinstance(message, StatusReport | StacksReport):
            waiting = self._waiting.pop(type(message), None)
            text = self._assembly.resolve_text(message.text)
            if waiting is not None and not waiting.done():
                waiting.set_result(ast.literal_eval(text))
        elif isinstance(message, TraceSource):
            for fd in fds:
                self.on_trace_source(fd)
        elif isinstance(message, Reopen):
            replace_error_log(fds)
            self._channel.send(Reopened())
        return True
