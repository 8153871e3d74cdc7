"""Which requests the admin HTTP answers: by the name in Host, by the site that sends them, and by the token.

Without a token, a page of any site could read the answers: its author lets the name of the site point to 127.0.0.1
(DNS rebinding), and for the browser the server then belongs to that site. Such a request has the name of the site in
Host. So without a token, Host must be an IP address, localhost, or a name from the setting `admin_hosts`. Pure.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from starman.config.admin_kinds import ANY_HOST
from starman.config.trusted_peers import packed_address

if TYPE_CHECKING:
    from collections.abc import Iterable

_LOCAL = "localhost"  # with all names below it, which are the loopback's (RFC 6761 §6.3)

_MISDIRECTED = "421 Misdirected Request"
_FORBIDDEN = "403 Forbidden"
_UNAUTHORIZED = "401 Unauthorized"

Refusal = tuple[str, str, tuple[tuple[str, str], ...]]


class Access:
    """The rules of one admin HTTP. Any thread."""

    __slots__ = ("_hosts", "_token")

    def __init__(self, token: str, hosts: Iterable[str]) -> None:
        """`token`: of RFC 6750, for which all paths but public ones ask; "": none. `hosts`: as `admin_hosts` has
        them."""
        self._token = token.encode()
        self._hosts = frozenset(hosts)

    def refusal(self, environ: dict[str, Any], *, is_public: bool) -> Refusal | None:
        """The status, the text and further fields of the answer to a request that is refused; None: it is allowed.
        `is_public`: whether the path has no data of the server."""
        if not self._is_host_allowed(environ.get("HTTP_HOST", "")):
            # The server has no authority for that name (RFC 9110 §15.5.20).
            text = (
                "this name in Host is not allowed: use an IP address or localhost, name it in the setting admin_hosts, or set "
                "admin_token"
            )
            return _MISDIRECTED, text, ()
        if is_public:
            return None
        if _is_foreign(environ):
            return _FORBIDDEN, "a page of another site has sent this request. To follow a link, type its address", ()
        if not self._has_token(environ):
            needed = "this page needs the header Authorization: Bearer TOKEN (admin_token)"
            return _UNAUTHORIZED, needed, (("WWW-Authenticate", 'Bearer realm="starman"'),)
        return None

    def _is_host_allowed(self, field: str) -> bool:
        # With a token, another site can read nothing: it does not have the token.
        if self._token or not field or ANY_HOST in self._hosts:
            return True
        host = field.strip().lower()
        if host.startswith("["):
            return _is_address(host[1:].partition("]")[0])
        host = host.partition(":")[0].removesuffix(".")
        return host == _LOCAL or host.endswith(f".{_LOCAL}") or host in self._hosts or _is_address(host)

    def _has_token(self, environ: dict[str, Any]) -> bool:
        if not self._token:
            return True
        scheme, _, given = environ.get("HTTP_AUTHORIZATION", "").partition(" ")
        return scheme.lower() == "bearer" and hmac.compare_digest(given.strip().encode("latin-1"), self._token)


def _is_address(host: str) -> bool:
    try:
        packed_address(host)
    except ValueError:
        return False
    return True


def _is_foreign(environ: dict[str, Any]) -> bool:
    """Whether another site's page has sent the request (Fetch Metadata). Such a page cannot read the answer, but it
    could take the places of viewers, or interrupt workers by asking for stacks."""
    return environ.get("HTTP_SEC_FETCH_SITE", "none") in ("cross-site", "same-site")
