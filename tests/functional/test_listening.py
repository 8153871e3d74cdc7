"""Listening addresses as an operator gives them: each form, on real sockets, with a real request."""

from __future__ import annotations

import os
import socket
import stat
import sys
from pathlib import Path

import pytest

from tests.functional.support.commands import starman
from tests.functional.support.harness import REPOSITORY, Process, Server, free_ports
from tests.functional.support.wire import Address, Client

HELLO = "examples/hello.py"


def served_at(address: Address) -> bool:
    with Client(address) as client:
        return client.get("/").body == b"Hello from starman\n"


@pytest.fixture
def free_port() -> int:
    return free_ports()[0]


def test_star_is_ipv4_and_ipv6_on_one_port() -> None:
    with Server(HELLO, "--workers", "1", listen="*:0") as server:
        assert len(server.ports) == 1
        assert served_at(("127.0.0.1", server.port))
        assert served_at(("::1", server.port))


def test_ipv4_and_ipv6_stand_side_by_side_on_one_port(free_port: int) -> None:
    with Server(HELLO, "--workers", "1", listen=[f"127.0.0.1:{free_port}", f"[::1]:{free_port}"]) as server:
        assert server.listeners == f"http://127.0.0.1:{free_port}, http://[::1]:{free_port}"
        assert served_at(("127.0.0.1", free_port))
        assert served_at(("::1", free_port))


def test_a_bare_port_and_a_colon_before_it_are_every_ipv4_interface(free_port: int) -> None:
    for written in (f"{free_port}", f":{free_port}"):
        with Server(HELLO, "--workers", "1", listen=written) as server:
            assert server.listeners == f"http://0.0.0.0:{free_port}"
            assert served_at(("127.0.0.1", free_port))


def test_host_and_port() -> None:
    with Server(HELLO, "--workers", "1", "--host", "127.0.0.1", "--port", "0", listen=()) as server:
        assert server.listeners == f"http://127.0.0.1:{server.port}"
        assert served_at(("127.0.0.1", server.port))


def test_host_and_port_from_the_environment() -> None:
    with Server(HELLO, "--workers", "1", listen=(), env={"STARMAN_HOST": "::1", "STARMAN_PORT": "0"}) as server:
        assert server.listeners == f"http://[::1]:{server.port}"
        assert served_at(("::1", server.port))


@pytest.mark.parametrize("written", ["named.sock", "./named.sock"])
def test_socket_takes_a_bare_name_too(tmp_path: Path, written: str) -> None:
    (tmp_path / "app.py").write_text((REPOSITORY / HELLO).read_text())
    with Server(None, "--workers", "1", "--socket", written, listen=(), cwd=tmp_path) as server:
        assert server.listeners == f"unix:{tmp_path}/named.sock"
        assert served_at(str(tmp_path / "named.sock"))
    assert not (tmp_path / "named.sock").exists()


def test_a_unix_socket_with_a_prefix_mode_and_group(tmp_path: Path) -> None:
    path = tmp_path / "server.sock"
    rights = ("--socket-mode", "0620", "--socket-group", str(os.getgid()))
    with Server(HELLO, "--workers", "1", *rights, listen=f"unix:{path}"):
        found = path.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_gid) == (0o620, os.getgid())
        assert served_at(str(path))


def test_an_inherited_unix_socket_stays_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "theirs.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        descriptor = listener.fileno()
        command = [sys.executable, "-m", "starman", HELLO, "--workers", "1", "--listen", f"fd://{descriptor}"]
        process = Process(command, pass_fds=(descriptor,))
        try:
            process.wait_for(f"ready: .* on unix:{path}", 30)
            assert served_at(str(path))
            assert process.stop() == 0
        finally:
            process.kill()
        assert path.exists()


# What fails is one line, and a status


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("fd://0", "that descriptor is not a socket"),
        ("fd://99", "no such descriptor was inherited"),
        ("203.0.113.1:0", "no interface of this machine has that address"),
        ("/nonexistent/server.sock", "its directory does not exist"),
    ],
)
def test_what_cannot_be_listened_on(address: str, reason: str) -> None:
    done = starman("--listen", address, HELLO, cwd=REPOSITORY)
    assert done.returncode == 1
    assert done.stderr.endswith(f"{reason}\n")
    assert done.stderr.count("\n") == 1, done.stderr


def test_a_second_server_on_an_address_says_which(tmp_path: Path) -> None:
    with Server(HELLO, "--workers", "1", listen=["127.0.0.1:0", f"{tmp_path}/server.sock"]) as server:
        for address in (f"127.0.0.1:{server.port}", f"unix:{tmp_path}/server.sock"):
            done = starman("--listen", address, HELLO, cwd=REPOSITORY)
            assert done.returncode == 1
            assert done.stderr.startswith(f"starman: cannot listen on {address}: ")
            assert done.stderr.count("\n") == 1, done.stderr
        assert served_at(str(tmp_path / "server.sock"))
