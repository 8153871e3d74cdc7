"""The event that ends a response early. Alone in its file, which is never compiled: BodyError is an OSError as well, and a native
class cannot be a base of that."""

from __future__ import annotations

from starman import application_forks


class ClientGone(Exception):  # noqa: N818 - an event, no error: nobody is to blame and nothing is to be logged
    """The client has closed or reset the connection, or it was cut: what is sent now goes nowhere."""


def gone() -> ClientGone:
    """The exception for a send to a client that is gone. A child that the application has forked ends here (`appfork`)."""
    application_forks.end_child()
    return ClientGone()
