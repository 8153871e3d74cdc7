"""Stands in for an application that cannot be loaded (`--reload`): shows the traceback to local clients."""

from __future__ import annotations

import ipaddress
import re
from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starman.wsgi.call import Application
    from starman.wsgi.environ import Environ

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ margin: 2em; font: 16px/1.5 system-ui, sans-serif; color: #222; background: #fff }}
h1 {{ font-size: 1.3em; overflow-wrap: anywhere }}
pre {{ padding: 1em; overflow-x: auto; border: 1px solid #ccc; background: #f6f6f6; font: 14px/1.4 monospace }}
</style>
</head>
<body>
<h1>{title}</h1>
{details}<p>starman waits for a change of the application's files, and loads them again then. Only local clients see
this page.</p>
</body>
</html>
"""
_BARE = b"Internal Server Error\n"
# Fields in which a proxy says for which client it sends the request.
_FORWARDED = (
    *("HTTP_X_FORWARDED_FOR", "HTTP_X_REAL_IP", "HTTP_X_CLIENT_IP", "HTTP_CF_CONNECTING_IP", "HTTP_TRUE_CLIENT_IP"),
    *("HTTP_X_CLUSTER_CLIENT_IP", "HTTP_X_ORIGINAL_FORWARDED_FOR", "HTTP_X_ENVOY_EXTERNAL_ADDRESS"),
    *("HTTP_FLY_CLIENT_IP", "HTTP_FASTLY_CLIENT_IP"),
)
# Fields in which a proxy, such as a tunnel from a public name, passes on the Host of its client.
_FORWARDED_HOSTS = ("HTTP_X_FORWARDED_HOST", "HTTP_X_ORIGINAL_HOST")
_SIGNS_OF_PROXY = ("HTTP_X_FORWARDED_", "HTTP_X_ORIGINAL_HOST")
# RFC 7239 §4: for=192.0.2.43, for="[2001:db8::1]:4711", for=_hidden, for=unknown.
_FOR = re.compile(r'for\s*=\s*(?:"([^"]*)"|([^\s;,"]*))', re.IGNORECASE)
# Names that do not come from the public DNS, in which an attacker's name may lead to 127.0.0.1 (DNS rebinding).
_LOCAL_NAMES = (".localhost", ".test")


def make_failure_page(message: str, details: str) -> Application:
    """The application that answers every request with 500. Local clients get `message`, one line, and `details`, a
    traceback or ""."""
    text = f"<pre>{escape(details)}</pre>\n" if details else ""
    page = _PAGE.format(title=escape(message), details=text).encode("utf-8", "backslashreplace")

    def show_failure(environ: Environ, start_response: object) -> list[bytes]:
        local = is_local(environ)
        body = page if local else _BARE
        fields = [
            ("Content-Type", "text/html; charset=utf-8" if local else "text/plain; charset=utf-8"),
            ("Content-Length", str(len(body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'"),
        ]
        start_response("500 Internal Server Error", fields)  # type: ignore[operator]
        return [body]

    return show_failure


def is_local(environ: Environ) -> bool:
    """Whether the client runs on this machine: the peer has a loopback address, every address in the fields of a proxy
    is one too, and no Host, nor one that a proxy passes on, is a name of the public DNS. A UNIX socket counts only
    with such fields: its peer is a proxy."""
    peer = str(environ.get("REMOTE_ADDR") or "")
    addresses = _forwarded_addresses(environ)
    if not all(_is_loopback(address) for address in addresses):
        return False
    if not addresses and any(name == "HTTP_VIA" or name.startswith(_SIGNS_OF_PROXY) for name in environ):
        return False  # a proxy that does not say for which client
    hosts = [str(environ.get("HTTP_HOST") or "")]
    hosts += [part.strip() for name in _FORWARDED_HOSTS if name in environ for part in str(environ[name]).split(",")]
    return (_is_loopback(peer) or (not peer and bool(addresses))) and all(map(_is_local_host, hosts))


def _forwarded_addresses(environ: Environ) -> list[str]:
    found = [part.strip() for name in _FORWARDED if name in environ for part in str(environ[name]).split(",")]
    forwarded = str(environ.get("HTTP_FORWARDED") or "")
    if forwarded:
        # A field without any "for" is a proxy that hides its client: "" is not a loopback address.
        found += [quoted or plain for quoted, plain in _FOR.findall(forwarded)] or [""]
    return found


def _is_loopback(address: str) -> bool:
    """Whether `address` is a loopback address, with or without a port."""
    host = address.partition("]")[0][1:] if address.startswith("[") else address
    if host.count(":") == 1:
        host = host.partition(":")[0]
    try:
        found = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return found.is_loopback if mapped is None else bool(mapped.is_loopback)


def _is_local_host(host: str) -> bool:
    """Whether a Host field names an address, or a name that the public DNS does not have."""
    name = host.partition("]")[0][1:] if host.startswith("[") else host.partition(":")[0]
    name = name.rstrip(".").lower()
    if "." not in name:
        return True  # localhost, a name of the local network, an IPv6 address, or no field at all
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name.endswith(_LOCAL_NAMES)
    return True
