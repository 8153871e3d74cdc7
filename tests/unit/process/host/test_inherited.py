"""starman.process.host.inherited: sockets that start_server and systemd pass, and how they combine with the
settings."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman.config.addresses import Address, AddressKind
from starman.config.settings import Settings
from starman.errors import SettingError
from starman.process.host.inherited import InheritedSockets


def take(**environ: str) -> InheritedSockets:
    return InheritedSockets.from_environ(environ)


@pytest.mark.parametrize(
    ("text", "fds"),
    [
        ("", {}),
        ("5000=4", {4: "5000"}),
        ("0.0.0.0:80=0", {0: "0.0.0.0:80"}),
        ("[::1]:5000=12", {12: "[::1]:5000"}),
        ("127.0.0.1:15705=4;/tmp/st/ss.sock=5", {4: "127.0.0.1:15705", 5: "/tmp/st/ss.sock"}),
        ("/tmp/a=b.sock=5", {5: "/tmp/a=b.sock"}),
        ("/tmp/a;b.sock=5;80=6", {5: "/tmp/a;b.sock", 6: "80"}),
    ],
)
def test_server_starter(text: str, fds: dict[int, str]) -> None:
    taken = take(SERVER_STARTER_PORT=text, SERVER_STARTER_GENERATION="7")
    assert (taken.passed_by, taken.fds, taken.generation) == ("start_server", fds, "7")
    assert len(taken.warnings) == (not fds)


@pytest.mark.parametrize("text", ["5000", "=4", "5000=", "5000=x", "5000=4;", "5000=²", ";", "5000=-1"])
def test_server_starter_misunderstood(text: str) -> None:
    with pytest.raises(SettingError, match=r"^SERVER_STARTER_PORT: .* is not ADDRESS=DESCRIPTOR$"):
        take(SERVER_STARTER_PORT=text)


@pytest.mark.parametrize(
    ("count", "names", "fds"),
    [
        ("0", "", {}),
        ("1", "", {3: ""}),
        ("2", "web:https", {3: "web", 4: "https"}),
        ("2", "web", {3: "web", 4: ""}),
        ("1", "web:left over", {3: "web"}),
    ],
)
def test_systemd(count: str, names: str, fds: dict[int, str]) -> None:
    taken = take(LISTEN_FDS=count, LISTEN_FDNAMES=names, LISTEN_PID=str(os.getpid()))
    assert (taken.passed_by, taken.fds, taken.warnings) == ("systemd", fds, ())


def test_systemd_misunderstood() -> None:
    for count in ("some", "-1", "²", "1000000"):
        with pytest.raises(SettingError, match=r"^LISTEN_FDS: .* is not a number of descriptors$"):
            take(LISTEN_FDS=count, LISTEN_PID=str(os.getpid()))


def test_sockets_for_another_process() -> None:
    taken = take(LISTEN_FDS="1", LISTEN_PID="1")
    assert (taken.passed_by, taken.fds) == ("", {})
    assert taken.warnings == ("LISTEN_FDS is for process 1, not for this one: its sockets are not used",)
    # start_server under systemd passes on the variables that it got; they cause no warning.
    taken = take(LISTEN_FDS="1", LISTEN_PID="1", SERVER_STARTER_PORT="80=4")
    assert (taken.fds, taken.warnings) == ({4: "80"}, ())


def test_the_variables_are_taken_away() -> None:
    environ = {"SERVER_STARTER_PORT": "80=4", "SERVER_STARTER_GENERATION": "1", "OTHER": "x"}
    environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "web", "LISTEN_PIDFDID": "9"}
    taken = InheritedSockets.from_environ(environ)
    assert environ == {"SERVER_STARTER_GENERATION": "1", "OTHER": "x"}
    assert (taken.passed_by, taken.fds) == ("start_server and systemd", {4: "80", 3: "web"})
    assert InheritedSockets.from_environ(environ).passed_by == ""


# Combined with the settings.


class Passed:
    """Sockets, as a supervisor would have opened them."""

    def __init__(self) -> None:
        self.sockets: list[socket.socket] = []

    def add(self, family: int, address: object, only_ipv6: bool = True) -> int:
        """Add a socket. Returns its port, or 0."""
        opened = socket.socket(family)
        self.sockets.append(opened)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only_ipv6)
        opened.bind(address)  # type: ignore[arg-type]
        return 0 if family == socket.AF_UNIX else int(opened.getsockname()[1])

    def addresses(self, **settings: object) -> list[tuple[int, bool]]:
        """Which of the sockets would be listeners, by their place in the list, and whether with TLS."""
        numbers = [opened.fileno() for opened in self.sockets]
        inherited_sockets = InheritedSockets("systemd", dict.fromkeys(numbers, ""))
        found = inherited_sockets.addresses(Settings.of(ssl_cert="x.pem", **settings))
        assert all(address.kind is AddressKind.FD for address in found)
        return [(numbers.index(address.fd), address.secure) for address in found]


@pytest.fixture
def passed() -> Iterator[Passed]:
    made = Passed()
    yield made
    for opened in made.sockets:
        opened.close()


def test_without_a_supervisor_the_settings_say() -> None:
    assert InheritedSockets("", {}).addresses(Settings.of(listen=":80")) == Settings.of(listen=":80").addresses()


def test_all_that_was_passed_is_used(passed: Passed, tmp_path: Path) -> None:
    passed.add(socket.AF_INET, ("127.0.0.1", 0))
    passed.add(socket.AF_UNIX, str(tmp_path / "s.sock"))
    assert passed.addresses() == [(0, False), (1, False)]
    # The listener turns TLS off for UNIX sockets.
    assert passed.addresses(enable_ssl=True) == [(0, True), (1, True)]


@pytest.mark.parametrize(
    ("family", "host", "only_ipv6", "written"),
    [
        (socket.AF_INET, "127.0.0.1", True, "127.0.0.1:{}"),
        (socket.AF_INET, "127.0.0.1", True, "localhost:{}"),
        (socket.AF_INET, "0.0.0.0", True, "{}"),
        (socket.AF_INET, "0.0.0.0", True, ":{}"),
        (socket.AF_INET, "0.0.0.0", True, "*:{}"),
        (socket.AF_INET6, "::1", True, "[::1]:{}"),
        (socket.AF_INET6, "::", True, "[::]:{}"),
        # As of ListenStream=80 in systemd.
        (socket.AF_INET6, "::", False, "*:{}"),
        (socket.AF_INET6, "::", False, ":{}"),
        (socket.AF_INET6, "::", False, "[::]:{}"),
    ],
)
def test_an_address_names_a_socket_and_says_whether_it_speaks_tls(
    passed: Passed, family: int, host: str, only_ipv6: bool, written: str
) -> None:
    other = passed.add(socket.AF_INET, ("127.0.0.1", 0))
    port = passed.add(family, (host, 0), only_ipv6)
    assert passed.addresses(listen=written.format(port)) == [(0, False), (1, False)]
    assert passed.addresses(listen=written.format(port) + ":ssl") == [(0, False), (1, True)]
    assert passed.addresses(listen=[written.format(port), f"127.0.0.1:{other}:ssl"]) == [(0, True), (1, False)]


def test_unix_sockets_are_named_by_path(passed: Passed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    passed.add(socket.AF_UNIX, "relative.sock")
    passed.add(socket.AF_UNIX, str(tmp_path / "absolute.sock"))
    passed.add(socket.AF_UNIX, f"\0starman-test-{os.getpid()}")
    names = ["./relative.sock", str(tmp_path / "relative.sock"), "unix:absolute.sock", f"@starman-test-{os.getpid()}"]
    for name in [*names, *(f"fd://{opened.fileno()}" for opened in passed.sockets)]:
        assert passed.addresses(listen=name) == [(0, False), (1, False), (2, False)]
    with pytest.raises(SettingError, match="is not among the sockets"):
        passed.addresses(listen="@relative.sock")


@pytest.mark.parametrize(
    "settings",
    [
        {"listen": "127.0.0.1:1"},
        {"listen": "[::1]:{}"},
        {"listen": "127.0.0.2:{}"},
        {"listen": "no.such.name.example.:{}"},
        {"listen": "fd://999"},
        {"listen": "/run/x.sock"},
        {"socket": "/run/x.sock"},
        {"port": "1"},
    ],
)
def test_an_address_that_names_none_is_an_error(
    passed: Passed, settings: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = passed.add(socket.AF_INET, ("127.0.0.1", 0))
    ((name, value),) = settings.items()
    if "example" in value:

        def getaddrinfo(*_: object, **__: object) -> None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(SettingError) as refused:
        passed.addresses(**{name: value.format(port)})
    assert str(refused.value).startswith(f"Settings.of({name}=...): ")
    assert str(refused.value).endswith(f" is not among the sockets that systemd has opened (127.0.0.1:{port})")


def test_what_is_no_socket_is_refused_when_it_is_adopted() -> None:
    inherited_sockets = InheritedSockets("systemd", {999: ""})
    assert inherited_sockets.addresses(Settings.of()) == (Address(AddressKind.FD, fd=999),)
    with pytest.raises(SettingError, match=r"\(fd://999\)$"):
        inherited_sockets.addresses(Settings.of(listen=":80"))


def test_the_line_for_the_log() -> None:
    urls = ["http://127.0.0.1:80", "unix:/run/x"]
    assert InheritedSockets("start_server", {4: "80", 5: "/run/x"}, "3").describe(urls) == (
        "sockets of start_server, generation 3: http://127.0.0.1:80, unix:/run/x"
    )
    named = InheritedSockets("systemd", {3: "web", 4: ""})
    assert named.describe(urls) == "sockets of systemd: http://127.0.0.1:80 (web), unix:/run/x"
