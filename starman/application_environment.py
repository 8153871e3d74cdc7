"""Sets and removes environment variables for the application (`env`, `unset_env`), in the processes that load it."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from starman.config.settings import Settings

# What the environment was before `apply_variables` first changed it; None until then. Main thread.
_at_start: dict[str, str] | None = None


def apply_variables(settings: Settings) -> None:
    """Remove the variables of `unset_env`, and set those of `env`. Main thread, before the application is loaded."""
    global _at_start  # noqa: PLW0603
    if _at_start is None and (settings.env or settings.unset_env):
        _at_start = dict(os.environ)
    for name in settings.unset_env:
        os.environ.pop(name, None)
    for assignment in settings.env:
        name, _, value = assignment.partition("=")
        os.environ[name] = value


def environment_at_start() -> dict[str, str]:
    """The environment that this process had before `apply_variables` changed it."""
    return dict(os.environ if _at_start is None else _at_start)


def replace_environment(variables: Mapping[str, str]) -> None:
    """Make `variables` the environment of this process. Main thread."""
    for name in [name for name in os.environ if name not in variables]:
        del os.environ[name]
    for name, value in variables.items():
        if os.environ.get(name) != value:
            os.environ[name] = value
