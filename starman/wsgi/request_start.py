"""Reads when a proxy has received a request, from X-Request-Start or X-Queue-Start: the request may have waited there.

The fields have no standard. The value is the time since the epoch as a decimal number, with or without `t=` before it:
in seconds (nginx, `t=${msec}`), milliseconds (Heroku) or microseconds (Apache, `%t`). Its size tells the unit.
"""

from __future__ import annotations

import re
from typing import Final

REQUEST_START: Final = b"x-request-start"
QUEUE_START: Final = b"x-queue-start"

# A longer wait (seconds) is taken for a wrong clock: no proxy waits so long.
LONGEST_WAIT: Final = 600.0

_NUMBER: Final = re.compile(rb"(?:t=)?([0-9]{10,16}(?:\.[0-9]{1,9})?)")
# From here on a number counts milliseconds, then microseconds. In seconds that is the year 5138.
_MILLISECONDS: Final = 1e11
_MICROSECONDS: Final = 1e14


def seconds_before(fields: dict[bytes, list[bytes]], now: float) -> float:
    """How long (seconds) ago the nearest proxy has received the request; 0.0 if no field says, or what it says cannot
    be: another form, the future, or more than LONGEST_WAIT ago. Never raises.

    `fields`: the values by name in lower case. `now`: in seconds since the epoch. X-Request-Start comes first, and the
    last of repeated fields, which the nearest proxy has added.
    """
    for name in (REQUEST_START, QUEUE_START):
        values = fields.get(name)
        match = _NUMBER.fullmatch(values[-1]) if values else None
        if match is not None:
            waited = now - _unix_time(float(match[1]))
            if 0.0 < waited <= LONGEST_WAIT:
                return waited
    return 0.0


def _unix_time(number: float) -> float:
    if number >= _MICROSECONDS:
        return number / 1e6
    return number / 1e3 if number >= _MILLISECONDS else number
