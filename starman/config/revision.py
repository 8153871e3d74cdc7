"""Settings that change while a server runs: what of them may, and how they travel from process to process.

Imported by the master, which never reads a file of settings itself: a child does, and sends what it has found.
"""

from __future__ import annotations

import marshal

from starman.config.option import DEFAULT_SOURCE, OPTIONS
from starman.config.settings import Settings
from starman.errors import SettingError

# The longest text of `encode_settings`. A file of settings of the size that is read (`starman.config.sources`) has a shorter one.
MOST_CHARACTERS = 24_000_000


def revise_settings(running: Settings, read: Settings) -> tuple[Settings, list[str]]:
    """The settings to go on with when `read` stands in the sources now, and a line for each that is refused.

    What is fixed stays as it is in `running`; everything else is as in `read`. Raises SettingError when the two do not
    go together, as TLS listeners that stay and a certificate that is gone.
    """
    values, sources = read.snapshot()
    refused = []
    for name, setting in OPTIONS.items():
        if not setting.fixed:
            continue
        if values[name] != running.value(name):
            refused.append(
                f"{name} stays {setting.show(running.value(name))}: it cannot change while the server runs "
                f"({read.source(name)}: {setting.show(values[name])})"
            )
        values[name] = running.value(name)
        sources.pop(name, None)
        if running.source(name) != DEFAULT_SOURCE:
            sources[name] = running.source(name)
    return Settings.from_snapshot(values, sources), refused


def decode_known_settings(text: str, read: Settings) -> Settings:
    """The settings that another version may have encoded, as far as this one knows them; what they lack is as in `read`."""
    values, sources = read.snapshot()
    try:
        known, origins = marshal.loads(bytes.fromhex(text))
        values.update((name, value) for name, value in known.items() if name in OPTIONS)
        sources.update((name, origin) for name, origin in origins.items() if name in OPTIONS)
    except (ValueError, EOFError, TypeError, AttributeError):
        return read
    return Settings.from_snapshot(values, sources)


def encode_settings(settings: Settings) -> str:
    """`settings` as text, for processes of the same version of starman and Python. Raises SettingError if it is too long."""
    text = marshal.dumps(settings.snapshot()).hex()
    if len(text) > MOST_CHARACTERS:
        raise SettingError(f"the settings are too large to pass to other processes ({len(text)} of {MOST_CHARACTERS} characters)")
    return text


def decode_settings(text: str) -> Settings:
    """The settings that `encode_settings` was given. Raises ValueError for any other text."""
    try:
        values, sources = marshal.loads(bytes.fromhex(text))
    except (EOFError, TypeError) as error:
        raise ValueError(f"they cannot be decoded: {error}") from None
    if not isinstance(values, dict) or values.keys() != OPTIONS.keys():
        raise ValueError("they belong to another version")
    return Settings.from_snapshot(values, sources)
