"""A request whose body is on its way: the loop gathers it, a thread writes to the disk what does not fit into memory."""

from __future__ import annotations

from starman.proto.messages import RequestHead
from starman.proto.response import interim
from starman.wsgi.body import RequestBody


class Upload:
    """One request between its head and the end of its body. Loop only, but for `spool`."""

    __slots__ = ("_discarded", "body", "continue_due", "head", "spooling")

    def __init__(self, head: RequestHead, memory_bytes: int) -> None:
        """`memory_bytes` is what of the body may stay in memory."""
        self.head = head
        self.body = RequestBody(memory_bytes)
        self.continue_due = head.expects_continue
        self.spooling = False
        self._discarded = False

    def interim(self) -> bytes:
        """100 Continue, unless some of the body came without it (RFC 9110 §10.1.1), or it has been said."""
        due = self.continue_due and not self.body.length
        self.continue_due = False
        return interim(100) if due else b""

    def spool(self) -> None:
        """Move what is in memory to the disk. In a thread; nobody else touches the body while `spooling`. Raises OSError."""
        self.body.spool()

    def spooled(self) -> None:
        """The disk is done, or has failed."""
        self.spooling = False
        if self._discarded:
            self.body.close()

    def discard(self) -> None:
        """It will not become a request: give memory and disk back, as soon as nobody uses them."""
        self._discarded = True
        if not self.spooling:
            self.body.close()
