"""Decides which settings may change while the server runs, and encodes settings for other processes.

The master imports this module. It never reads a settings file itself: a child reads the file and sends the settings.
"""

from __future__ import annotations

import marshal

from starman.config.option import DEFAULT_SOURCE, OPTIONS
from starman.config.settings import Settings
from starman.errors import SettingError

# The longest text that `encode_settings` returns. The largest settings file (`starman.config.sources`) needs less.
MOST_CHARACTERS = 24_000_000


def revise_settings(running: Settings, read: Settings) -> tuple[Settings, list[str]]:
    """Return the settings to use after a restart with the sources `read`, and a line for each change that is refused.

    Fixed settings keep their value in `running`; all others have that of `read`. Raises SettingError if these
    contradict each other, for example TLS listeners that remain without a certificate.
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
    """Decode settings that another version may have encoded. Unknown settings are dropped; missing ones are those of
    `read`."""
    values, sources = read.snapshot()
    try:
        known, origins = marshal.loads(bytes.fromhex(text))
        values.update((name, value) for name, value in known.items() if name in OPTIONS)
        sources.update((name, origin) for name, origin in origins.items() if name in OPTIONS)
    except (ValueError, EOFError, TypeError, AttributeError):
        return read
    return Settings.from_snapshot(values, sources)


def encode_settings(settings: Settings) -> str:
    """Encode settings as text, for the same version of starman and Python. Raises SettingError if the text is too
    long."""
    text = marshal.dumps(settings.snapshot()).hex()
    if len(text) > MOST_CHARACTERS:
        raise SettingError(f"the settings are too large to pass to other processes ({len(text)} of {MOST_CHARACTERS} characters)")
    return text


def decode_settings(text: str) -> Settings:
    """Decode a text of `encode_settings`. Raises ValueError for any other text."""
    try:
        values, sources = marshal.loads(bytes.fromhex(text))
    except (EOFError, TypeError) as error:
        raise ValueError(f"they cannot be decoded: {error}") from None
    if not isinstance(values, dict) or values.keys() != OPTIONS.keys():
        raise ValueError("they belong to another version")
    return Settings.from_snapshot(values, sources)
