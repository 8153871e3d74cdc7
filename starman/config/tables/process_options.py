"""The table of settings of the processes, which `starman.config.options` includes. The master imports this module."""

from __future__ import annotations

from starman.config import kinds
from starman.config.option import option


class ProcessOptions:
    """Declares the settings of the processes."""

    __slots__ = ()

    chdir: str | None = option(
        None,
        "Process",
        kinds.text("a directory", "DIR"),
        "Change to this directory first. Relative paths refer to it, except --config and the default settings file.",
        fixed=True,
    )
    umask: int | None = option(
        None,
        "Process",
        kinds.MODE,
        "Set the umask: the permission bits removed from new files (octal). None: unchanged.",
        fixed=True,
    )
    pid: str | None = option(
        None,
        "Process",
        kinds.text("a file", "FILE"),
        "Write the process id of the master to this file, and remove the file at the end. Do not start if it holds the id of a "
        "live process.",
        fixed=True,
    )
    daemonize: bool = option(
        False,
        "Process",
        kinds.FLAG,
        "Run in the background, without a terminal. The command returns when the server is ready or has failed.",
        ("-D",),
        fixed=True,
    )
    user: str | int | None = option(
        None,
        "Process",
        kinds.USER,
        "Run as this user, with the groups of the user, after the listeners are bound. None: unchanged.",
        fixed=True,
    )
    group: str | int | None = option(
        None, "Process", kinds.GROUP, "Run as this group. None: the primary group of --user, or unchanged.", fixed=True
    )
    proc_name: str | None = option(
        None,
        "Process",
        kinds.text("a name", "NAME"),
        "Show this name in the titles of the processes. None: that of the application.",
    )
    disable_proctitle: bool = option(False, "Process", kinds.FLAG, "Do not set the titles of the processes.", fixed=True)
    disable_immortal_objects: bool = option(
        False,
        "Process",
        kinds.FLAG,
        "Count the references of code, names and classes as usual. By default, CPython 3.12 and 3.13 do not count them, so that "
        "workers share more memory.",
        fixed=True,
    )
