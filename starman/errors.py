"""The exceptions of starman, each with the exit status of the command.

An error is raised where it is found, with a message for the operator. `starman.cli`, and the command that starts a
daemon, print the message and exit with the status. Must not import anything.
"""

from __future__ import annotations


class StarmanError(Exception):
    """Base of every error that starman raises on purpose.

    `str(error)` is one line. `details`: text of several lines to print after it, for example the traceback of an
    application; "" if there are none.
    """

    exit_status = 1

    def __init__(self, message: str, details: str = "") -> None:
        super().__init__(message)
        self.details = details


class SettingError(StarmanError):
    """A setting has an unknown name or an invalid value. The message names the source, and the valid values."""

    exit_status = 2


class LoadError(StarmanError):
    """The application cannot be found or imported, or is not callable."""


class NoApplicationError(LoadError):
    """The module is imported, but what the setting names in it is missing, or is no WSGI application."""


class WarmUpError(StarmanError):
    """A warm-up request has failed."""


class HookError(StarmanError):
    """A hook of the application has raised an exception. `details` has its traceback."""


class ListenError(StarmanError):
    """A listener cannot be opened: the port is in use, another process listens on the path, or the address is not
    local."""


class StartError(StarmanError):
    """The first workers did not become ready, or the system refuses something that a start needs."""


class ProtocolError(StarmanError):
    """A request is malformed or exceeds a limit. `status`: the status code of the response.

    `to_head`: whether a HEAD request is refused: its response has no content (RFC 9110 §9.3.2). The parser sets it.
    `head`: the `RequestHead` of the request, if all its fields have been read; else None. The parser sets it.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.to_head = False
        self.head: object = None


class RequestTimeout(BaseException):
    """Raised in the thread of a request that has passed its deadline (`request_interrupt`).

    A BaseException, so that an application that catches every Exception does not go on.
    """


class Disconnected(Exception):  # noqa: N818 - an event, no error: nothing is to be logged
    """The client has closed or reset the connection, or the server has cut it: the rest of the response cannot be
    sent.

    Not compiled: BodyError is an OSError as well, which a class compiled by mypyc cannot be combined with.
    """
