"""The exception tree of starman. Imports nothing; every room may import it.

Whoever finds an error raises it with the words an operator needs; what exit status it means, its class says. `cli.py` ends with
that, and so does the command that waits for a daemon.
"""

from __future__ import annotations


class StarmanError(Exception):
    """Base of every error that starman raises on purpose.

    `str(error)` is one plain line. `details`, where there are any, is text of several lines to print after it
    (an application's traceback, for instance).
    """

    exit_status = 1

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class SettingError(StarmanError):
    """A setting's name or value is wrong, wherever it was written. The message names both and what would be valid."""

    exit_status = 2


class LoadError(StarmanError):
    """The application cannot be found or imported, or is not callable."""


class WarmUpError(StarmanError):
    """The application does not answer a warm-up request as it should."""


class HookError(StarmanError):
    """A hook of the application's has raised. `details` has its traceback."""


class ListenError(StarmanError):
    """A listener cannot be opened: the port is in use, the path is a live socket, the address is not ours."""


class StartError(StarmanError):
    """The workers of the first start did not become ready, or the system refuses something that a start needs."""


class ProtocolError(StarmanError):
    """A peer's message breaks HTTP, or a limit of ours. `status` is the response's status code, set where it is found.

    `to_head`: what is refused is the head of a HEAD request, so its answer has no content (RFC 9110 §9.3.2). The parser sets it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.to_head = False


class Disconnected(Exception):  # noqa: N818 - an event, no error: nothing is to be logged
    """The client has closed or reset the connection, or the server has cut it: the rest of the response cannot be sent.

    Not compiled: BodyError is an OSError as well, which a class compiled by mypyc cannot be combined with.
    """
