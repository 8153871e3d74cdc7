"""The interface of a format of the access log: makes the line of one request."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starman.serving.access_log.logged_request import LoggedRequest


class LineFormat(metaclass=ABCMeta):
    """Makes lines. Any thread; the loop for refusals."""

    __slots__ = ()

    @abstractmethod
    def line(self, request: LoggedRequest) -> bytes:
        """Return the line of a request, in ASCII, with its line feed. Does not raise, whatever the environ holds."""
