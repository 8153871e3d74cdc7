"""Connects the workers to the observer while requests are traced (`starman-uv trace`).

Each worker gets one end of a socket pair of its own, and the observer the other end, so requests do not pass through
the master. The end of file tells the observer that a worker has ended, and a failing write tells a worker that the
observer has.
"""

from __future__ import annotations

import socket
import sys

from starman import log
from starman.process.messages import FROM_WORKER
from starman.process.observer_messages import Trace, TraceSource

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.process.master.link import Link
    from starman.process.master.links import Links

# Packets; macOS has them as datagrams only.
_KIND = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET


class Tracing:
    """The trace of this master's workers. Only the master's loop calls."""

    __slots__ = ("_filters", "_links", "_observer")

    def __init__(self, links: Links, observer: int) -> None:
        """`observer`: the number of the observer's link."""
        self._links = links
        self._observer = observer
        self._filters = ""

    def follow(self, filters: str) -> None:
        """Have all workers trace the requests that match `filters` from now on; "": none. Later workers do, too."""
        if not filters and not self._filters:
            return
        self._filters = filters
        for link in self._links:
            self._order(link)

    def on_ready(self, link: Link) -> None:
        """A process is ready: if it is a worker, it joins the trace."""
        if self._filters:
            self._order(link)

    def _order(self, link: Link) -> None:
        if link.kinds is not FROM_WORKER or not link.slot:
            return
        observer = self._links.find_link(self._observer)
        if not self._filters or observer is None:
            self._links.send(link, Trace(""))
            return
        try:
            source, target = socket.socketpair(socket.AF_UNIX, _KIND)
        except OSError as error:
            log.warning(f"the requests of {link.title} are not traced: {error.strerror}")
            return
        with source, target:
            self._links.send(observer, TraceSource(), [source.fileno()])
            self._links.send(link, Trace(self._filters), [target.fileno()])
