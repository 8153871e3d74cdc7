"""The settings of a server for a bug report: without what may be secret."""

from __future__ import annotations

from starman.config.option import OPTIONS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from starman.process.worker_spec import WorkerSpec

HIDDEN = "(hidden)"
# Settings with values of which any may be a secret, and parts of the names of others.
_HIDDEN_NAMES = ("eval", "log_config")
_HIDDEN_WORDS = ("token", "secret", "password")


def report_settings(spec: WorkerSpec) -> dict[str, Any]:
    """Each setting that is not a default, with its value and source; and the path of the error log, None if that is no
    file."""
    settings = spec.settings
    given = []
    for name, option in OPTIONS.items():
        source = settings.source(name)
        if source != "default":
            given.append((name, _shown(name, settings.value(name), option.show(settings.value(name))), source))
    path = settings.error_log
    is_file = path is not None and not path.startswith("syslog")
    return {"settings": given, "error_log": spec.program.working_directory.absolute(path) if path and is_file else None}


def _shown(name: str, value: object, text: str) -> str:
    if name == "env" and isinstance(value, tuple):
        return " ".join(f"{assignment.partition('=')[0]}={HIDDEN}" for assignment in value)
    hidden = name in _HIDDEN_NAMES or any(word in name for word in _HIDDEN_WORDS)
    return HIDDEN if hidden and value else text
