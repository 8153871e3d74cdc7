"""Recognises another distribution named `starman` in the same environment: on PyPI that name belongs to a library for
state estimation, which installs a package of the same name. starman's own distribution is `starman-uv`.

Upgrading or removing the other distribution replaces or removes files of this package. Must not import anything large:
the master imports it.
"""

from __future__ import annotations

import os
import sys

from starman.errors import StartError
from starman.version import VERSION

# PEP 376, PEP 427: NAME-VERSION.dist-info, beside the package. A name has no "-" there.
_PREFIX = "starman-"
_SUFFIX = ".dist-info"
_CURE = "pip uninstall starman, then pip install --force-reinstall --no-deps starman-uv"


def check_package() -> None:
    """Raises StartError if the package's `__init__` is not this server's: it was replaced, or removed."""
    if getattr(sys.modules["starman"], "__version__", None) == VERSION:
        return
    other = _find()
    what = f"the distribution {other}" if other else "another distribution"
    raise StartError(
        f"files of the server have been replaced or removed by {what}, which has a package named starman too: {_CURE}"
    )


def warning() -> str | None:
    """What to log about another distribution that is installed beside this package; None if there is none. Takes the
    time of one look into the directory."""
    other = _find()
    if other is None:
        return None
    return (
        f"the distribution {other} is installed too, and has a package named starman, as this server (starman-uv) has: "
        f"upgrading or removing it breaks the server. {_CURE}"
    )


def _find() -> str | None:
    """The other distribution with its version, as in "starman 1.0.0"."""
    directory = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    try:
        names = os.listdir(directory)
    except OSError:
        return None
    for name in names:
        if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
            return f"starman {name[len(_PREFIX) : -len(_SUFFIX)]}"
    return None
