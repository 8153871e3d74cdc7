"""What becomes of gunicorn's settings of connections: addresses, limits, TLS, and proxies in front."""

from __future__ import annotations

from starman.gunicorn.bind import listen_addresses
from starman.gunicorn.mapping.outcomes import Outcomes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.gunicorn.configuration import Resolved


def _bind(resolved: Resolved, outcomes: Outcomes) -> None:
    binds = listen_addresses(resolved.texts("bind"))
    settings: dict[str, object] = {"listen": binds}
    if any(address.startswith("unix:") for address in binds):
        # The files of gunicorn's sockets have the permissions 0777 but for its umask, whatever that of the process is.
        settings["socket_mode"] = 0o777 & ~resolved.number("umask")
    outcomes.use("bind", **settings)


def _backlog(resolved: Resolved, outcomes: Outcomes) -> None:
    outcomes.use("backlog", backlog=max(1, resolved.number("backlog")))


def _limits(name: str, most: int) -> Callable[[Resolved, Outcomes], None]:
    """A limit of requests, where 0 means none: then `most` counts."""

    def use(resolved: Resolved, outcomes: Outcomes) -> None:
        number = resolved.number(name) or most
        settings = {name: number}
        if name != "limit_request_fields" and number > 32_768:
            settings["limit_request_head"] = 2 * number
        outcomes.use(name, **settings)

    return use


def _certfile(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.value("certfile") is not None:
        outcomes.use("certfile", ssl_cert=resolved.value("certfile"), enable_ssl=True)


def _keyfile(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.value("keyfile") is not None:
        outcomes.use("keyfile", ssl_key=resolved.value("keyfile"))


def _forwarded_allow_ips(resolved: Resolved, outcomes: Outcomes) -> None:
    """gunicorn trusts UNIX sockets as well, without being told."""
    peers = resolved.texts("forwarded_allow_ips")
    outcomes.use("forwarded_allow_ips", forwarded_allow_ips=peers if "*" in peers else [*peers, "unix"])


def _proxy_allow_ips(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.value("proxy_protocol") == "off":
        outcomes.ignore("proxy_allow_ips", "proxy_protocol is off")
        return
    peers = resolved.texts("proxy_allow_ips")
    outcomes.use("proxy_allow_ips", proxy_allow_ips=peers if "*" in peers else [*peers, "unix"])


def _proxy_protocol(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.value("proxy_protocol") == "off":
        outcomes.ignore("proxy_protocol", "it is the default")
        return
    outcomes.use("proxy_protocol", proxy_protocol=resolved.value("proxy_protocol"))
    outcomes.warn("proxy_protocol", "connections without a header of the PROXY protocol are closed; gunicorn serves them")


def _secure_scheme_headers(resolved: Resolved, outcomes: Outcomes) -> None:
    value = resolved.value("secure_scheme_headers")
    assert isinstance(value, dict)
    outcomes.use("secure_scheme_headers", secure_scheme_headers=[f"{name}={text}" for name, text in value.items()])


def _protocol(resolved: Resolved, outcomes: Outcomes) -> None:
    if resolved.value("protocol") == "http":
        outcomes.ignore("protocol", "starman speaks HTTP")
    else:
        outcomes.refuse("protocol", "starman speaks HTTP only; let the proxy in front use HTTP (proxy_pass)")


def _http_protocols(resolved: Resolved, outcomes: Outcomes) -> None:
    protocols = [part.strip() for part in str(resolved.value("http_protocols") or "h1").split(",")]
    if protocols == ["h1"]:
        outcomes.ignore("http_protocols", "starman speaks HTTP/1.1")
    elif "h1" in protocols:
        outcomes.cannot("http_protocols", "starman speaks HTTP/1.1 only")
    else:
        outcomes.refuse("http_protocols", "starman speaks HTTP/1.1 only; let the proxy in front speak HTTP/2")


CONNECTION_SETTINGS: dict[str, Callable[[Resolved, Outcomes], None]] = {
    "bind": _bind,
    "backlog": _backlog,
    "limit_request_line": _limits("limit_request_line", 1 << 20),
    "limit_request_fields": _limits("limit_request_fields", 32_768),
    "limit_request_field_size": _limits("limit_request_field_size", 1 << 20),
    "certfile": _certfile,
    "keyfile": _keyfile,
    "forwarded_allow_ips": _forwarded_allow_ips,
    "secure_scheme_headers": _secure_scheme_headers,
    "proxy_protocol": _proxy_protocol,
    "proxy_allow_ips": _proxy_allow_ips,
    "protocol": _protocol,
    "http_protocols": _http_protocols,
}
