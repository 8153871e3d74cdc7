"""The commands for a server that runs, in containers and sandboxes: namespaces of processes and of the network, a
read-only root, and no /proc."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman.commands.servers import find_servers
from tests.functional.support.harness import Process, wait_until
from tests.functional.support.tools import find_tool, need_root

APPLICATION = "lambda environ, start_response: start_response('200 OK', []) and None or [b'fine']"
# Hides /proc, and lets nothing be written.
BARE = """\
mount -t tmpfs -o ro none /proc && mount --bind /tmp /tmp &&
mount -o remount,ro,bind /tmp && mount -o remount,ro,bind / && exec"""


def starman(*words: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "starman", *words]


class Contained(Process):
    """A server in namespaces of its own. unshare: the options of unshare(1). prefix: what runs the command there."""

    def __init__(self, name: str, unshare: tuple[str, ...], prefix: tuple[str, ...] = ()) -> None:
        need_root()
        options = ("--workers", "1", "--listen", "127.0.0.1:0", "--log-level", "debug", "--proc-name", name)
        command = starman(*options, "-e", APPLICATION)
        super().__init__([find_tool("unshare"), *unshare, *prefix, *command], env={"HOME": "/nonexistent"})
        try:
            self.wait_for(r"ready: 1 worker")
        except BaseException:
            self.kill()
            raise

    @property
    def master(self) -> int:
        """The process id of the master, by its number outside."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return int(children[0])

    def run(self, target: int, *words: str, namespaces: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the namespaces of the process `target`; `namespaces` has options of nsenter(1)."""
        enter = [find_tool("nsenter"), "--target", str(target), *namespaces.split()]
        return subprocess.run([*enter, *starman(*words)], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture
def contained() -> Iterator[list[Contained]]:
    """Servers put in here are ended with the test."""
    servers: list[Contained] = []
    yield servers
    for server in servers:
        server.kill()


def test_two_containers_in_one_network_answer_for_themselves_only(contained: list[Contained]) -> None:
    """Both masters are process 1, and the abstract names belong to the network."""
    inside = "--pid --mount"
    for name in ("first", "second"):
        contained.append(Contained(name, ("--pid", "--fork", "--mount-proc", "--kill-child")))
    for server, name in zip(contained, ("first", "second"), strict=True):
        for words in (["status"], ["status", "--pid", "1"]):
            done = server.run(server.master, *words, namespaces=inside)
            assert done.returncode == 0, done.stderr
            assert "master 1," in done.stdout
            assert f"\n{name} on http://" in done.stdout
    assert 1 not in [server.pid for server in find_servers()]
    first, second = contained
    # The command that stops process 1 may end with the namespace, before it has said so.
    second.run(second.master, "stop", "--pid", "1", namespaces=inside)
    assert second.wait() == 0
    assert first.run(first.master, "status", namespaces=inside).returncode == 0


def test_a_container_with_its_own_network_is_reached_through_both_namespaces(contained: list[Contained]) -> None:
    contained.append(Contained("apart", ("--net", "--pid", "--fork", "--mount-proc", "--kill-child")))
    (server,) = contained
    done = server.run(server.master, "status", namespaces="--net --pid --mount")
    assert "\napart on http://" in done.stdout, done.stderr
    # With its network only, the number in the name is not that of a process here.
    done = server.run(server.master, "status", namespaces="--net")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("starman: no starman of this user runs here ")


def test_it_is_commanded_where_nothing_can_be_written_and_proc_is_missing(contained: list[Contained]) -> None:
    sh = (find_tool("sh"), "-c", f'{BARE} "$@"', "sh")
    contained.append(Contained("bare", ("--mount",), sh))
    (server,) = contained
    assert "control socket" not in server.log
    for namespaces in ("--mount", "--net"):
        done = server.run(server.pid, "status", "--pid", str(server.pid), namespaces=namespaces)
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines()[0].endswith(f", master {server.pid}")
        assert "1 of 1 workers ready" in done.stdout
    done = server.run(server.pid, "status", namespaces="--mount")
    assert done.returncode == 2
    assert done.stderr == (
        "starman: /proc cannot be read here, so no server is found: choose one by --pid, or by --control PATH\n"
    )
    done = server.run(server.pid, "stop", "--pid", str(server.pid), namespaces="--mount")
    assert done.returncode == 0, done.stderr
    assert wait_until(lambda: server.status == 0)
