"""Sends the response of an exchange: the Output of its call, in the thread."""

from __future__ import annotations

import os
from time import monotonic
from typing import TYPE_CHECKING

from starman import log
from starman.errors import Disconnected
from starman.serving.executors.queued_request import QueuedRequest
from starman.serving.sending.corking import Pace
from starman.serving.sending.sendfile import FileRange
from starman.serving.sending.writer_state import DEAD

if TYPE_CHECKING:
    from starman.proto.events import RequestHead
    from starman.serving.context import ServiceContext
    from starman.serving.sending.writer import Writer
    from starman.wsgi.environ import Environ


class ResponseSender(QueuedRequest):
    """The part of an `Exchange` that sends its response."""

    __slots__ = ("_base", "_context", "_pace", "_writer")

    def __init__(self, context: ServiceContext, writer: Writer, base: Environ, head: RequestHead) -> None:
        """As of `Exchange`."""
        super().__init__(head)
        self._context = context
        self._writer = writer
        self._base = base
        self._pace: Pace | None = None  # of the blocks of a response that has several

    def harakiri(self) -> None:
        """The application asks for the end of its process."""
        self._context.harakiri()

    def may_persist(self) -> bool:
        """Whether the connection is kept.

        The client, a setting, or a drain without another request here may forbid it.
        """
        context = self._context
        return self.head.persistent and context.keepalive and (not context.draining or bool(self._writer.pending))

    def on_empty_block(self, sent: int) -> None:
        """The application has nothing to send at the moment: let the loop check whether the client is still there."""
        if self._writer.state is DEAD:
            raise Disconnected
        self.empty_block_at = sent

    def send(self, data: bytes, *, last: bool, head: bytes = b"") -> None:
        """Write to the socket, and leave to the loop what it does not take. Raises Disconnected.

        Waits until the loop has sent it, unless it is the `last` of the response, or too many threads wait already:
        then it is spooled. The last part of a response, and blocks that follow each other at once, may be held back
        (`Corking`).
        """
        if not (head or data):
            return
        writer, corking = self._writer, self._context.executor.corking
        if last:
            if corking.hold_response(writer, self, head, data):
                return
        elif head or self._pace is None:
            self._pace = Pace(monotonic())
        elif self._pace.is_rapid(monotonic()) and corking.hold_block(writer, self, data):
            return
        unsent = writer.send(self, head, data)
        if unsent is not None:
            self._leave(unsent, last=last, may_wait=not last)

    def _send_own(self, message: bytes, *, last: bool) -> None:
        """Send a message of the server itself, a refusal or 100 Continue, without holding it back.

        Raises Disconnected.
        """
        unsent = self._writer.send(self, message, b"")
        if unsent is not None:
            self._leave(unsent, last=last, may_wait=not last)

    def send_file(self, head: bytes, fd: int, offset: int, count: int) -> None:
        """Send a head and a part of a file, and end the response. The loop sends what the socket does not take, from a
        descriptor of its own, so the application may close its file at once. Raises Disconnected."""
        file_range: FileRange | None = None
        try:
            file_range = FileRange(os.dup(fd), offset, count)
            unsent = self._writer.send(self, head, b"")
            if unsent is not None:
                self._leave(unsent, last=False, may_wait=False)
            self._writer.send_file(self, file_range)
            if file_range.count:
                self._writer.hand_over(self, file_range, last=True)
                file_range = None  # the loop's now
        except (OSError, EOFError) as error:
            log.error(f"a file could not be sent whole: {error}")
            raise Disconnected from None
        finally:
            if file_range is not None:
                file_range.close()

    def _leave(self, unsent: memoryview, *, last: bool, may_wait: bool) -> None:
        """Leave to the loop what the socket did not take. Raises Disconnected."""
        try:
            if may_wait and self._hold_up(unsent):
                return
            self._writer.keep(self, unsent, self._context.spool_limits, last=last)
        except OSError as error:
            details = f"{self._base['REMOTE_ADDR']}, {error}"
            self._context.shortages.add(
                "the connection of a client that reads slowly is reset, because its response cannot be kept", details
            )
            self._writer.abandon(self)
            raise Disconnected from None

    def _hold_up(self, unsent: memoryview) -> bool:
        """Leave `unsent` to the loop, and wait until it is sent. False: too many threads wait.

        Raises Disconnected, OSError.
        """
        executor = self._context.executor
        if not executor.begin_wait():
            return False
        self.begin_wait()
        try:
            self._writer.hand_over(self, unsent, last=False)
        finally:
            self.end_wait()
            executor.end_wait()
        return True
