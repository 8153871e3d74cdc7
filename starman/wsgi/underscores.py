"""Field names with "_" (RFC 9110 §5.1 allows them): dropped, refused, or passed on.

In environ, `X_Forwarded_For` would have the key of `X-Forwarded-For`, so a client could imitate a field that a proxy
sets or checks. `wsgi.environ` drops such names; this module renames those that are passed on all the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from starman.errors import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from starman.proto.events import RequestHead

_SCRIPT_NAME: Final = b"script_name"
# Their keys in environ belong to the server: they are about the body, which is passed on decoded.
_NEVER: Final = {b"content_length", b"content_type", b"transfer_encoding"}


class UnderscoredNames:
    """What a service does with field names that have "_". Frozen.

    counts: whether it does anything but drop them.
    """

    __slots__ = ("_dangerous", "_forwarded", "_forwards_all", "_refuses", "counts")

    def __init__(self, forwarder_headers: Iterable[str], header_map: str) -> None:
        """`forwarder_headers`, `header_map`: the settings."""
        names = {name.lower().encode("latin-1") for name in forwarder_headers}
        self._forwarded = {name for name in names if b"_" in name}
        self._forwards_all = b"*" in names
        self._refuses = header_map == "refuse"
        self._dangerous = header_map == "dangerous"
        self.counts = bool(self._forwarded or self._forwards_all or self._refuses or self._dangerous)

    def apply(self, head: RequestHead, noted: dict[bytes, list[bytes]], trusted: bool) -> str | None:
        """Rename the fields of `head` that are passed on. Return the SCRIPT_NAME that a trusted proxy states, after
        removing it from the start of `head.path`; None if there is none.

        Raises ProtocolError (400) for a name that is refused, and a SCRIPT_NAME with which the path does not begin.
        """
        own: set[bytes] = set()
        others: set[bytes] = set()
        for name in noted:
            if b"_" not in name:
                continue
            if trusted and (self._forwards_all or name in self._forwarded):
                own.add(name)
            elif self._refuses:
                raise ProtocolError(400, "the name of a field has a _, which header_map refuses")
            elif self._dangerous:
                others.add(name)
        if own or others:
            head.fields = _renamed(head.fields, own - _NEVER, others - _NEVER)
        return _take_script_name(head, noted[_SCRIPT_NAME]) if _SCRIPT_NAME in own else None


def _renamed(fields: list[tuple[bytes, bytes]], own: set[bytes], others: set[bytes]) -> list[tuple[bytes, bytes]]:
    """Write the names in `own` and `others` with "-" instead of "_". A field of the client that already has such a
    name is dropped if the proxy's own field replaces it."""
    replaced = {name.replace(b"_", b"-") for name in own}
    result = []
    for name, value in fields:
        lower = name.lower()
        if lower in own or (lower in others and lower.replace(b"_", b"-") not in replaced):
            result.append((name.replace(b"_", b"-"), value))
        elif lower not in replaced:
            result.append((name, value))
    return result


def _take_script_name(head: RequestHead, values: list[bytes]) -> str | None:
    if len(set(values)) > 1:
        raise ProtocolError(400, "the proxy has sent SCRIPT_NAME twice, with different values")
    prefix = values[0].rstrip(b"/")
    if not prefix:
        return None
    rest = head.path[len(prefix) :]
    if not prefix.startswith(b"/") or not head.path.startswith(prefix) or rest[:1] not in (b"", b"/"):
        raise ProtocolError(400, "the path does not begin with the SCRIPT_NAME that the proxy states")
    head.path = rest
    return unquote_to_bytes(prefix).decode("latin-1")
