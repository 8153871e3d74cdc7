"""100 Continue: tells a client that waits for it to send the body of its request (RFC 9110 §10.1.1).

`proto.heads` reads the field Expect. A client that has sent bytes of the body does not wait, and gets no 100 Continue.

- A body that is gathered before the application is called (`Upload`) is read in any case. So the connection sends 100
  Continue with the head, or as soon as earlier requests are answered.
- A body that the application reads as it arrives (`--stream-body`) may not be read at all. So the exchange sends 100
  Continue when the application first reads (`BodyStream.before_wait`), and not after its response has begun: the
  final response says what the client should do (RFC 9110 §15.2).
"""

from __future__ import annotations

from typing import Final

from starman.proto.response import interim

CONTINUE: Final = interim(100)


class ExpectContinue:
    """The expectation of a client whose body is gathered. It is met once, if at all. Loop only."""

    __slots__ = ("_met",)

    def __init__(self) -> None:
        self._met = False

    def next_response(self, received: int) -> bytes:
        """Return 100 Continue; b"" if it was returned before, or if bytes of the body have come without it.

        `received`: how many bytes of the body have come.
        """
        due = not (self._met or received)
        self._met = True
        return CONTINUE if due else b""
