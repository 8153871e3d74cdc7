"""starman.process.worker.server_resources: a child forked by the application keeps no descriptor or handler of the
server."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from starman.config.addresses import parse_address
from starman.config.settings import Settings
from starman.process.channel import Channel
from starman.process.forking import install_handlers
from starman.process.host.listeners import Listener, open_listeners
from starman.process.worker.server_resources import ServerResources, point_nowhere, server_sockets
from tests.unit.process.forked import run_forked


@pytest.fixture(params=["127.0.0.1:0", "[::1]:0", "*:0", "unix", "abstract"])
def listener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Listener]:
    text = {"unix": str(tmp_path / "socket"), "abstract": f"@starman-resources-{os.getpid()}"}.get(request.param, request.param)
    opened = open_listeners([parse_address(text)], Settings.of())
    yield opened[0]
    for each in opened:
        each.close()


def connected(listener: Listener) -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection: the client's, and the one that the listener has accepted."""
    name = listener.socket.getsockname()
    client = socket.socket(listener.socket.family)
    if listener.socket.family != socket.AF_UNIX:
        name = ("127.0.0.1" if listener.socket.family == socket.AF_INET else "::1", name[1])
    client.connect(name)
    accepted, _ = listener.socket.accept()
    return client, accepted


def test_the_sockets_of_the_server_are_found(listener: Listener) -> None:
    """Listeners, connections and all duplicates; neither the client's end nor another server's, nor what is no
    socket."""
    client, accepted = connected(listener)
    copy = accepted.dup()
    with client, accepted, copy, socket.create_server(("127.0.0.1", 0)) as other, open(os.devnull) as file:
        found = server_sockets([listener.socket.getsockname()])
        assert set(found) == {listener.socket.fileno(), accepted.fileno(), copy.fileno()}
        assert not {client.fileno(), other.fileno(), file.fileno()} & set(found)
        assert server_sockets([listener.socket.getsockname()], [copy.fileno(), -1]) == [listener.socket.fileno()]
        assert server_sockets([]) == []


def test_what_points_nowhere_keeps_its_number() -> None:
    read_fd, write_fd = os.pipe()
    point_nowhere([write_fd, -1])
    assert os.read(read_fd, 1) == b""  # the other end is closed
    assert os.write(write_fd, b"nowhere") == 7
    assert not os.get_inheritable(write_fd)
    os.close(read_fd)
    os.close(write_fd)


def test_without_a_descriptor_for_dev_null_they_are_closed() -> None:
    def in_child() -> str:
        import resource

        read_fd, write_fd = os.pipe()
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))
        point_nowhere([write_fd])
        assert os.read(read_fd, 1) == b""
        return "fine"

    assert run_forked(in_child) == "fine"


def in_a_child_of_the_application(prepare: Callable[[], Callable[[], object]]) -> None:
    """Call `prepare` in a fresh process of the server, and return its result in a child that the application forks
    there."""

    def in_process() -> str:
        look = prepare()
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                look()
                status = 0
            finally:
                os._exit(status)
        assert os.waitpid(pid, 0)[1] == 0
        return "fine"

    assert run_forked(in_process) == "fine"


def test_handlers_of_the_server_are_the_systems_again_and_others_stay() -> None:
    def prepare() -> Callable[[], object]:
        def of_the_application(*_: object) -> None:
            pass

        def of_the_loop(*_: object) -> None:
            pass

        install_handlers(stop_ends=True)
        signal.signal(signal.SIGUSR2, of_the_application)
        resources = ServerResources([])
        signal.signal(signal.SIGTERM, of_the_loop)
        resources.note_handler(signal.SIGTERM)

        def look() -> None:
            for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGALRM):
                assert signal.getsignal(signum) is signal.SIG_DFL, signum
            assert signal.getsignal(signal.SIGUSR2) is of_the_application
            assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN

        return look

    in_a_child_of_the_application(prepare)


def test_a_caller_keeps_its_handlers() -> None:
    """`serve` touches no signals, here neither."""

    def prepare() -> Callable[[], object]:
        install_handlers(stop_ends=True)
        before = signal.getsignal(signal.SIGTERM)
        ServerResources([], signals=False)

        def look() -> None:
            assert signal.getsignal(signal.SIGTERM) is before

        return look

    in_a_child_of_the_application(prepare)


def test_signals_wake_no_loop_of_the_parent() -> None:
    def prepare() -> Callable[[], object]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        signal.set_wakeup_fd(theirs.fileno())
        handled: list[int] = []
        signal.signal(signal.SIGUSR2, lambda signum, _: handled.append(signum))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR2})  # a fork of ours begins with it blocked
        ServerResources([])

        def look() -> None:
            signal.raise_signal(signal.SIGUSR2)
            assert handled == [signal.SIGUSR2]
            assert theirs.fileno() >= 0
            with pytest.raises(BlockingIOError):
                ours.recv(1)

        return look

    in_a_child_of_the_application(prepare)


class FakeService:
    """Gives up one descriptor, and keeps another."""

    def __init__(self, given: int, kept: int) -> None:
        self._answer = [given], [kept]

    def abandon(self) -> tuple[list[int], list[int]]:
        return self._answer


class BrokenService:
    def abandon(self) -> tuple[list[int], list[int]]:
        raise RuntimeError("it is in the midst of its start")


def leads_nowhere(fd: int) -> bool:
    return os.path.samestat(os.fstat(fd), os.stat(os.devnull))


@pytest.mark.parametrize("broken", [False, True])
def test_listeners_channel_and_connections_are_given_up(broken: bool) -> None:
    def prepare() -> Callable[[], object]:
        listeners = open_listeners([parse_address("127.0.0.1:0")], Settings.of())
        ours, theirs = Channel.pair()
        resources = ServerResources(listeners, theirs)
        client, accepted = connected(listeners[0])
        _, detached = connected(listeners[0])
        given, kept = os.open(os.devnull, os.O_RDONLY), detached.fileno()
        given_pipe, write_fd = os.pipe()
        os.close(given)
        resources.service = BrokenService() if broken else FakeService(write_fd, kept)
        # Closed at a drain, and yet known by its name.
        copy = listeners[0].socket.dup()
        listeners[0].close()

        def look() -> None:
            assert leads_nowhere(theirs.fileno())
            assert leads_nowhere(accepted.fileno())
            assert leads_nowhere(copy.fileno())
            assert not leads_nowhere(client.fileno())
            assert not leads_nowhere(ours.fileno())
            assert not leads_nowhere(given_pipe)
            assert leads_nowhere(detached.fileno()) is broken
            assert leads_nowhere(write_fd) is not broken

        return look

    in_a_child_of_the_application(prepare)
