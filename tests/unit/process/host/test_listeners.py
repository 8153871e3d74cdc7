"""starman.process.host.listeners: every kind of address, and every refusal in one line."""

from __future__ import annotations

import errno
import grp
import os
import socket
import stat
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from starman.config.addresses import parse_address
from starman.config.settings import Settings
from starman.errors import ListenError
from starman.process.host import listeners as module
from starman.process.host.listeners import Listener, open_listeners
from tests.unit.process.forked import run_forked

Open = Callable[..., list[Listener]]


@pytest.fixture
def opened() -> Iterator[Open]:
    """open_listeners for texts and settings; closes what it opened."""
    found: list[Listener] = []

    def open_texts(*texts: str, **settings: object) -> list[Listener]:
        new = open_listeners([parse_address(text) for text in texts], Settings.of(**settings))
        found.extend(new)
        return new

    yield open_texts
    for listener in found:
        listener.close()


def connect(address: Any, family: int = socket.AF_INET) -> None:
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(address)


def test_tcp(opened: Open) -> None:
    (listener,) = opened("127.0.0.1:0")
    port = listener.socket.getsockname()[1]
    assert listener.url == f"http://127.0.0.1:{port}"
    assert listener.address == parse_address("127.0.0.1:0")
    assert not listener.socket.getblocking()
    assert not listener.socket.get_inheritable()
    assert listener.socket.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR)
    connect(("127.0.0.1", port))


def test_ipv6_alone_leaves_ipv4_to_others(opened: Open) -> None:
    (listener,) = opened("[::1]:0")
    port = listener.socket.getsockname()[1]
    assert listener.url == f"http://[::1]:{port}"
    assert listener.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    connect(("::1", port), socket.AF_INET6)
    (beside,) = opened(f"127.0.0.1:{port}")
    assert beside.url == f"http://127.0.0.1:{port}"


def test_star_takes_both_families(opened: Open) -> None:
    (listener,) = opened("*:0")
    port = listener.socket.getsockname()[1]
    connect(("127.0.0.1", port))
    connect(("::1", port), socket.AF_INET6)


def resolve_to(monkeypatch: pytest.MonkeyPatch, *hosts: str) -> None:
    """Have every name resolve to these addresses, each twice, as /etc/hosts may have it."""

    def getaddrinfo(host: str, port: int, **_: object) -> list[Any]:
        found: list[Any] = []
        for address in hosts:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            found += [(family, socket.SOCK_STREAM, 6, "", (address, port))] * 2
        return found

    monkeypatch.setattr(module.socket, "getaddrinfo", getaddrinfo)


def test_a_name_with_several_addresses_listens_on_all(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "127.0.0.1", "::1")
    assert [listener.socket.family for listener in opened("both.example:0")] == [socket.AF_INET, socket.AF_INET6]


def test_an_address_that_this_machine_lacks_is_left_out(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "192.0.2.1", "127.0.0.1")
    (listener,) = opened("partly.example:0")
    assert listener.url.startswith("http://127.0.0.1:")
    resolve_to(monkeypatch, "192.0.2.1")
    with pytest.raises(ListenError, match=r"^cannot listen on no\.example:0: no interface of this machine has that address$"):
        opened("no.example:0")


def test_star_without_ipv6_is_ipv4(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = module._bind_tcp

    def bind(address: Any, family: int, host: Any, backlog: int) -> Listener:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "no such family")
        return whole(address, family, host, backlog)

    monkeypatch.setattr(module, "_bind_tcp", bind)
    assert opened("*:0")[0].url.startswith("http://0.0.0.0:")


def test_port_in_use_is_one_line_and_closes_the_others(opened: Open, tmp_path: Path) -> None:
    (first,) = opened("127.0.0.1:0")
    port = first.socket.getsockname()[1]
    with pytest.raises(ListenError) as refused:
        opened(f"unix:{tmp_path}/s.sock", f"127.0.0.1:{port}")
    assert str(refused.value) == f"cannot listen on 127.0.0.1:{port}: address already in use"
    assert not (tmp_path / "s.sock").exists()


def test_a_name_that_does_not_resolve(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(module.socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(ListenError, match="cannot listen on nowhere:80: the host name cannot be resolved"):
        opened("nowhere:80")


def test_privileged_port(opened: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    def bind(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(module, "_bind_tcp", bind)
    with pytest.raises(ListenError, match=r"127\.0\.0\.1:80: permission denied: a port below 1024 needs privileges$"):
        opened("127.0.0.1:80")


def test_backlog_reaches_the_kernel(opened: Open) -> None:
    (listener,) = opened("127.0.0.1:0", backlog=7)
    # struct tcp_info: for a listening socket, tcpi_sacked is the most connections that may wait.
    info = listener.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104)
    assert struct.unpack_from("I", info, 28) == (7,)


def test_unix(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    (listener,) = opened(f"{path}")
    assert listener.url == f"unix:{path}"
    connect(str(path), socket.AF_UNIX)
    listener.close()
    assert not path.exists()
    listener.close()


def test_a_relative_path_is_removed_from_wherever_the_process_is_then(
    opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (listener,) = opened("./s.sock")
    monkeypatch.chdir("/")
    assert listener.url == f"unix:{tmp_path}/s.sock"
    listener.close()
    assert not (tmp_path / "s.sock").exists()


def test_mode_and_group_are_those_of_the_settings_and_the_umask_stays(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    umask = os.umask(0o027)
    try:
        opened(f"{path}")
        assert stat.S_IMODE(path.stat().st_mode) == 0o750
        opened(f"{path}2", socket_mode="0660", socket_group=os.getgid())
        assert stat.S_IMODE(Path(f"{path}2").stat().st_mode) == 0o660
        assert Path(f"{path}2").stat().st_gid == os.getgid()
        opened(f"{path}3", socket_group=grp.getgrgid(os.getgid()).gr_name)
    finally:
        assert os.umask(umask) == 0o027


def test_an_unknown_group_leaves_no_file(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="no group is called 'no-such-group'"):
        opened(f"{tmp_path}/s.sock", socket_group="no-such-group")
    assert list(tmp_path.iterdir()) == []


def test_a_stale_socket_is_replaced(opened: Open, tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(path)
        stale.listen()
    opened(path)
    connect(path, socket.AF_UNIX)


@pytest.mark.parametrize("backlog", [5, 0])
def test_a_live_socket_is_refused_even_with_a_full_backlog(opened: Open, tmp_path: Path, backlog: int) -> None:
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX) as live, socket.socket(socket.AF_UNIX) as client:
        live.bind(path)
        live.listen(backlog)
        client.connect(path)
        with pytest.raises(ListenError, match=f"^cannot listen on unix:{path}: a server is alive on that socket$"):
            opened(path)
    assert os.path.exists(path)


def test_a_file_that_is_no_socket_is_refused_and_kept(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("precious")
    with pytest.raises(ListenError, match="a file that is not a socket is in its place"):
        opened(f"{path}")
    assert path.read_text() == "precious"


def test_a_socket_of_another_kind_is_refused(opened: Open, tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        with pytest.raises(ListenError, match="unknown whether a server is alive"):
            opened(path)


def test_a_missing_directory(opened: Open, tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="its directory does not exist"):
        opened(f"{tmp_path}/none/s.sock")


def test_hazard_12_only_the_process_that_bound_it_unlinks(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    (listener,) = opened(f"{path}")
    run_forked(listener.close)
    assert path.exists()
    connect(str(path), socket.AF_UNIX)


def test_hazard_12_a_socket_that_is_no_longer_ours_stays(opened: Open, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    (listener,) = opened(f"{path}")
    path.rename(tmp_path / "moved")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        listener.close()
        assert path.exists()


def test_abstract(opened: Open) -> None:
    name = f"starman-test-{os.getpid()}"
    (listener,) = opened(f"@{name}")
    assert listener.url == f"unix:@{name}"
    connect(f"\0{name}", socket.AF_UNIX)
    with pytest.raises(ListenError, match=f"^cannot listen on @{name}: address already in use$"):
        opened(f"@{name}")


def inherited(family: int = socket.AF_INET, address: Any = ("127.0.0.1", 0), listens: bool = True) -> int:
    """The number of a descriptor as a supervisor passes it: blocking and inheritable."""
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind(address)
    if listens:
        made.listen()
    made.set_inheritable(True)
    return made.detach()


@pytest.mark.parametrize("listens", [True, False])
def test_descriptor(opened: Open, listens: bool) -> None:
    fd = inherited(listens=listens)
    (listener,) = opened(f"fd://{fd}")
    assert listener.socket.fileno() == fd
    assert not listener.socket.getblocking()
    assert not listener.socket.get_inheritable()
    assert listener.url == f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
    connect(listener.socket.getsockname())


def test_hazard_12_an_inherited_socket_is_neither_unlinked_nor_shut_down(opened: Open, tmp_path: Path) -> None:
    path = str(tmp_path / "s.sock")
    fd = inherited(socket.AF_UNIX, path)
    shared = socket.socket(fileno=os.dup(fd))
    (listener,) = opened(f"fd://{fd}")
    assert listener.url == f"unix:{path}"
    listener.close()
    connect(path, socket.AF_UNIX)
    shared.close()


def test_descriptors_that_are_no_listeners(opened: Open) -> None:
    with pytest.raises(ListenError, match=r"^cannot listen on fd://999999: no such descriptor was inherited$"):
        opened("fd://999999")
    with open("/dev/null", "rb") as file:
        with pytest.raises(ListenError, match="that descriptor is not a socket"):
            opened(f"fd://{file.fileno()}")
        os.fstat(file.fileno())
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram:
        with pytest.raises(ListenError, match="neither TCP nor a UNIX stream"):
            opened(f"fd://{datagram.fileno()}")
        os.fstat(datagram.fileno())


def test_an_ascii_name_is_resolved_without_the_tables_of_idna() -> None:
    program = (
        "import sys\n"
        "from starman.config.addresses import parse_address\n"
        "from starman.process.host.listeners import resolve\n"
        "print(resolve(parse_address('127.0.0.1:80')), 'stringprep' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[(socket.AF_INET, ('127.0.0.1', 80))]} False\n"
