"""The table of settings of the observer, which `starman.config.options` includes. The master imports this module."""

from __future__ import annotations

from starman.config import kinds
from starman.config.option import option


class ObserverOptions:
    """Declares the settings of the observer: how the server is watched and steered."""

    __slots__ = ()

    control: str = option(
        "auto",
        "Operation",
        kinds.text("a path, auto or off", "PATH"),
        "Accept commands such as `starman-uv status` on this UNIX socket, from the user of the server and from root. auto: an "
        "abstract address with the process id of the master (Linux). off: none.",
        fixed=True,
    )
