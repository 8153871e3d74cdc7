"""What gunicorn changes in its processes besides the settings: `sys.argv` and the variable SERVER_SOFTWARE."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

VERSION = (27, 0, 1)
VERSION_TEXT = ".".join(map(str, VERSION))
SERVER_SOFTWARE = f"gunicorn/{VERSION_TEXT}"
VARIABLE = "SERVER_SOFTWARE"


def arguments_of(program: str, argv: Sequence[str]) -> list[str]:
    """`sys.argv` as gunicorn has it. program: the path of the running command. argv: what follows `gunicorn`.

    The first item ends in gunicorn, beside the running command, because applications look for this name in it.
    """
    directory, name = os.path.split(program)
    if name == "__main__.py":  # python -m starman
        return [os.path.join(os.path.dirname(directory), "gunicorn", name), *argv]
    return [os.path.join(directory, "gunicorn"), *argv]
