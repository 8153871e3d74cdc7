"""The body of a request, as an exchange uses it."""

from __future__ import annotations

from io import BytesIO
from typing import BinaryIO, Protocol


class Body(Protocol):
    """The body of a request, as an exchange uses it: complete (`RequestBody`), or still arriving (`BodyStream`).

    length: in bytes; None when the client has not declared it. trailers: (name, value); None when there are none.
    """

    @property
    def length(self) -> int | None: ...

    @property
    def trailers(self) -> list[tuple[str, str]] | None: ...

    def reader(self) -> BinaryIO:
        """The `wsgi.input` of the request. Raises OSError when a spool file cannot be read."""

    def close(self) -> bool:
        """The application has returned. Returns whether the client failed to send the whole body."""

    def discard(self) -> None:
        """The request will not run."""


class FinishedBody:
    """A body after its `close`, of which only the length is left."""

    __slots__ = ("_length",)

    def __init__(self, length: int | None) -> None:
        self._length = length

    @property
    def length(self) -> int | None:
        return self._length

    @property
    def trailers(self) -> list[tuple[str, str]] | None:
        return None

    def reader(self) -> BinaryIO:
        return BytesIO()

    def close(self) -> bool:
        return False

    def discard(self) -> None:
        """Nothing is left to free."""
