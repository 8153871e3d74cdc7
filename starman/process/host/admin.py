"""What the admin HTTP needs from the master: its listeners, bound before the start succeeds, and its token."""

from __future__ import annotations

import os

from starman.config.addresses import parse_address
from starman.errors import SettingError
from starman.process.host.listeners import open_listeners

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starman.config.settings import Settings
    from starman.process.host.listeners import Listener

# The longest file of a token that is read, in bytes.
_TOKEN_BYTES = 4096


def open_admin_listeners(
    settings: Settings, owner: tuple[int, int] = (-1, -1), *, listens: bool = True, beside: Sequence[Listener] = ()
) -> list[Listener]:
    """The listeners of `admin_listen`; none without it. The parameters are those of `open_listeners`. Raises
    ListenError."""
    if settings.admin_listen is None:
        return []
    return open_listeners([parse_address(settings.admin_listen)], settings, owner, listens=listens, beside=beside)


def read_admin_token(settings: Settings, absolute: Callable[[str], str] = os.path.abspath) -> str:
    """The token of `admin_token`, from its file if it names one; "" without one. Raises SettingError.

    `absolute` makes a path of the settings absolute. Call it as the user of the server, which reads the file again.
    """
    token = settings.admin_token or ""
    if not token.startswith("@"):
        return token
    path, source = token[1:], settings.source("admin_token")
    try:
        with open(absolute(path), "rb") as file:
            found = file.read(_TOKEN_BYTES).strip()
    except OSError as error:
        raise SettingError(f"{source}: cannot read {path}: {error.strerror}") from None
    if not found or not found.isascii() or len(found.split()) != 1:
        raise SettingError(f"{source}: {path} must have one token: ASCII without spaces")
    return found.decode()
