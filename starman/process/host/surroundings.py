"""What a start says about the machine, the interpreter and the environment that it finds. The master imports this
module."""

from __future__ import annotations

import os

from starman import foreign_distribution
from starman.config import temporary_directory
from starman.process.host import free_threading

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.config.settings import Settings


def warnings_about_surroundings(settings: Settings) -> list[str]:
    """What to log as warnings before the server starts, or to print by --check."""
    found = (temporary_directory.warning(settings, os.environ), foreign_distribution.warning(), free_threading.warning())
    return [warning for warning in found if warning is not None]
