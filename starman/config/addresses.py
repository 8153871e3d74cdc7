"""Parses the addresses of listeners: "127.0.0.1:5000", ":5000:ssl", "unix:/run/app.sock".

Opens and resolves nothing. The master imports this module; it must not import anything of starman but the errors.
"""

from __future__ import annotations

import enum
import sys
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton

from starman.errors import SettingError

ALL_IPV4 = "0.0.0.0"
ALL_DUAL_STACK = "*"
TLS_SUFFIX = ":ssl"
FORMS = (
    "HOST:PORT, :PORT, PORT, [IPv6]:PORT, *:PORT (each also with :ssl), a UNIX path (with a / in it, or unix:PATH), @NAME, "
    "or fd://N"
)

# The longest path in sockaddr_un, without the final NUL: the array has 108 bytes on Linux, 104 on the BSDs and macOS.
UNIX_PATH_BYTES = 107 if sys.platform == "linux" else 103


class AddressKind(enum.Enum):
    """What kind of socket an address names."""

    TCP = "tcp"
    UNIX = "unix"
    ABSTRACT = "abstract"
    FD = "fd"


class Address:
    """The address of a listener. Frozen, hashable, compared by value.

    host: TCP only: a name, an IPv4 address, an IPv6 address without brackets, or "*" for the dual-stack socket that
          accepts IPv4 and IPv6. "::" is every IPv6 address and no IPv4 address (IPV6_V6ONLY), so that it can be
          bound together with 0.0.0.0 on one port. "" for the other kinds.
    port: TCP only: 0 to 65535; 0 lets the system choose. 0 for the other kinds.
    path: UNIX: the path. ABSTRACT: the name without "@" (bind it after a NUL). "" for the other kinds.
    fd:   FD only: the number of an inherited descriptor that is bound, and may be listening. -1 for the other kinds.
    secure: whether TLS is used. Never on a UNIX socket; FD: only if it is a TCP socket.
    """

    __slots__ = ("fd", "host", "kind", "path", "port", "secure")

    kind: AddressKind
    host: str
    port: int
    path: str
    fd: int
    secure: bool

    def __init__(
        self, kind: AddressKind, *, host: str = "", port: int = 0, path: str = "", fd: int = -1, secure: bool = False
    ) -> None:
        for name, value in (("kind", kind), ("host", host), ("port", port), ("path", path), ("fd", fd), ("secure", secure)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"an Address is frozen: {name} cannot be set")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"an Address is frozen: {name} cannot be deleted")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Address) and self._parts() == other._parts()

    def __hash__(self) -> int:
        return hash(self._parts())

    def __repr__(self) -> str:
        return f"<Address {self}>"

    def __str__(self) -> str:
        """The canonical text: `parse_address(str(address))` is equal to `address`, but for a `secured` descriptor."""
        if self.kind is AddressKind.TCP:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"{host}:{self.port}{TLS_SUFFIX if self.secure else ''}"
        if self.kind is AddressKind.UNIX:
            return f"unix:{self.path}"
        if self.kind is AddressKind.ABSTRACT:
            return f"@{self.path}"
        return f"fd://{self.fd}"

    def secured(self) -> Address:
        """The same address with TLS. A UNIX socket is returned unchanged."""
        if self.kind in (AddressKind.UNIX, AddressKind.ABSTRACT):
            return self
        return Address(self.kind, host=self.host, port=self.port, fd=self.fd, secure=True)

    def _parts(self) -> tuple[AddressKind, str, int, str, int, bool]:
        return (self.kind, self.host, self.port, self.path, self.fd, self.secure)


def parse_address(text: str) -> Address:
    """Parse the address of a listener.

    HOST:PORT, where HOST is a name or an IPv4 address · :PORT or PORT, every IPv4 interface (0.0.0.0) · [IPv6]:PORT ·
    *:PORT, every interface of both families · any of these with ":ssl" behind it, for TLS · a UNIX path: with a "/" in
    it, or after "unix:" · @NAME, Linux's abstract namespace · fd://N, an inherited descriptor.

    Raises SettingError, with the text and the reason.
    """
    if not text:
        raise SettingError(f"an empty address: write {FORMS}")
    if text != text.strip() or any(character < " " for character in text):
        raise SettingError(f"{text!r}: an address must not have white space around it or contain control characters")
    if text.startswith("fd://"):
        return _descriptor(text)
    if text.startswith("@"):
        if sys.platform != "linux":
            raise SettingError(f"{text!r}: only Linux has abstract names of sockets: write the path of a UNIX socket")
        return _unix(text, AddressKind.ABSTRACT, text[1:])
    if text.startswith("unix:"):
        return unix_address(text.removeprefix("unix:"), text)
    if "://" in text:
        raise SettingError(f"{text!r} is a URL: write HOST:PORT only")
    if "/" in text:
        return unix_address(text, text)
    if text.endswith(TLS_SUFFIX):
        return _tcp(text.removesuffix(TLS_SUFFIX)).secured()
    return _tcp(text)


def tcp_address(host: str, port: int) -> Address:
    """The address of a host and a port: `host` may be an IPv6 address with or without brackets, "*", or
    "" for every IPv4 interface. Raises SettingError if it is invalid."""
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") and ":" in host else host
    if ":" in bare:
        return Address(AddressKind.TCP, host=_ipv6(bare, host), port=port)
    if not bare or bare == ALL_DUAL_STACK:
        return Address(AddressKind.TCP, host=bare or ALL_IPV4, port=port)
    return Address(AddressKind.TCP, host=_name(bare, host), port=port)


def unix_address(path: str, text: str) -> Address:
    """The address of a UNIX socket at `path`. `text`: the text that was given, for the SettingError."""
    return _unix(text, AddressKind.UNIX, path)


def _unix(text: str, kind: AddressKind, path: str) -> Address:
    what = "path" if kind is AddressKind.UNIX else "name"
    if not path or path.endswith("/"):
        raise SettingError(f"{text!r}: the {what} of the socket is missing")
    length = len(path.encode("utf-8", "surrogateescape"))
    if length > UNIX_PATH_BYTES:
        raise SettingError(f"{text!r}: the {what} of the UNIX socket is too long ({length} bytes, at most {UNIX_PATH_BYTES})")
    if kind is AddressKind.UNIX and path.startswith("//"):
        path = "/" + path.lstrip("/")  # unix:///run/app.sock, in the form of a URL, is accepted too
    return Address(kind, path=path)


def _descriptor(text: str) -> Address:
    digits = text.removeprefix("fd://")
    if not (digits.isascii() and digits.isdigit() and len(digits) < 10):  # it must fit into an int of C
        raise SettingError(f"{text!r}: write fd://N, where N is the number of an inherited descriptor")
    return Address(AddressKind.FD, fd=int(digits))


def _tcp(text: str) -> Address:
    if text.isascii() and text.isdigit():
        return Address(AddressKind.TCP, host=ALL_IPV4, port=_port(text, text))
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or not rest.startswith(":"):
            raise SettingError(f"{text!r}: write [IPv6]:PORT")
        return Address(AddressKind.TCP, host=_ipv6(host, text), port=_port(rest[1:], text))
    host, colon, digits = text.rpartition(":")
    if not colon:
        raise SettingError(f"{text!r} has no port: write {text}:PORT, or unix:{text} for a UNIX socket")
    if ":" in host:
        raise SettingError(f"{text!r}: write an IPv6 address in brackets, [IPv6]:PORT")
    port = _port(digits, text)
    if not host or host == ALL_DUAL_STACK:
        return Address(AddressKind.TCP, host=host or ALL_IPV4, port=port)
    return Address(AddressKind.TCP, host=_name(host, text), port=port)


def _port(digits: str, text: str) -> int:
    if not digits:
        raise SettingError(f"{text!r} has no port")
    if not (digits.isascii() and digits.isdigit()):
        raise SettingError(f"{text!r}: {digits!r} is not a port (0 to 65535)")
    # The digits are counted first, because int() raises an error of its own for thousands of digits.
    if len(digits.lstrip("0")) > 5 or int(digits) > 65535:
        raise SettingError(f"{text!r}: port {digits} is out of range (0 to 65535)")
    return int(digits)


def _ipv6(host: str, text: str) -> str:
    """An IPv6 address in canonical form; a zone (fe80::1%eth0) is left unchanged."""
    plain, percent, zone = host.partition("%")
    try:
        if percent and not zone:
            raise ValueError
        return inet_ntop(AF_INET6, inet_pton(AF_INET6, plain)) + percent + zone
    except (OSError, ValueError):
        raise SettingError(f"{text!r}: {host!r} is not an IPv6 address") from None


def _name(host: str, text: str) -> str:
    """A host name in lower case, or an IPv4 address in full."""
    if not all(character.isascii() and (character.isalnum() or character in "-._") for character in host):
        raise SettingError(f"{text!r}: {host!r} is neither a host name nor an IPv4 address")
    if not host.replace(".", "").isdigit():
        return host.lower()
    try:
        inet_pton(AF_INET, host)
    except OSError:
        raise SettingError(f"{text!r}: {host!r} is not an IPv4 address") from None
    return host
