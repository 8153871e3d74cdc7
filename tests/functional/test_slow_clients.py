"""Slow clients by the hundred, by slowhttptest: they are reset in time, and all other clients are served meanwhile.

`pytest -s` prints how long the others waited, undisturbed and beside the attack: docs/performance.md has figures, by
wrk.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.functional.support.applications import pattern
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.tools import find_tool
from tests.functional.support.vitals import descriptors

ATTACKERS = 500
# So many have to be there at the same time: on a busy machine the first are cut before the last have come.
AT_ONCE = 400
# When the attackers would go of themselves (seconds), and until when the server has to have cut them. On an idle
# machine it takes 6 to 11.
ATTACK_SECONDS = 60
CUT_SECONDS = 45
# Descriptors that others have meanwhile.
OTHERS = 4

# How each mode is slow, and the setting that is to end it. A head is cut by its time; a body, and the reading of an
# answer, by a lack of progress. That the rates are kept, too, after a grace of 10 s, is tested on single connections,
# with another clock.
ATTACKS = {
    "header": (["-H", "-i", "1", "-x", "10"], "/hello"),
    "body": (["-B", "-i", "15", "-s", "100000", "-x", "10"], "/echo"),
    "read": (["-X", "-w", "512", "-y", "1024", "-n", "5", "-z", "32", "-k", "1"], "/large"),
}
TIMEOUTS = ["--header-timeout", "8", "--keepalive-timeout", "8", "--write-timeout", "6"]

# A client that has its answer later than this was not served beside the attack, but after it.
PROMPT_SECONDS = 2.5


class Others:
    """Clients that behave, while the `with` block runs: some on new connections, some on one that they keep."""

    def __init__(self, server: Server, count: int = OTHERS) -> None:
        self._server = server
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(bool(number % 2),)) for number in range(count)]
        self.seconds: list[float] = []
        self.failures: list[BaseException] = []

    def __enter__(self) -> Others:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def quantile(self, part: float) -> float:
        """What `part` of the answers took at most, in seconds."""
        return sorted(self.seconds)[int(part * (len(self.seconds) - 1))]

    def __str__(self) -> str:
        figures = ", ".join(f"p{100 * part:g} {1000 * self.quantile(part):.1f} ms" for part in (0.5, 0.99, 1))
        return f"{len(self.seconds)} answers, {figures}"

    def _visit(self, keeps: bool) -> None:
        client = self._server.client()
        body = pattern(3000)
        try:
            while not self._ended.wait(0.005):
                began = time.monotonic()
                if not keeps:
                    client.close()
                    client = self._server.client()
                assert client.get("/hello").body == b"hello\n"
                assert client.request("POST", "/echo", body=body).body == body
                self.seconds.append((time.monotonic() - began) / 2)
        except BaseException as failure:
            self.failures.append(failure)
        finally:
            client.close()


@contextmanager
def small_buffers() -> Iterator[socket.socket]:
    """A listener with connections that have small buffers in the kernel, so that the server has to keep a response of
    /large."""
    with socket.create_server(("127.0.0.1", 0), backlog=2 * ATTACKERS) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        yield listener


def serving(arguments: Sequence[str], listener: socket.socket, env: dict[str, str]) -> Server:
    descriptor = listener.fileno()
    application = "tests.functional.support.applications:app"
    return Server(application, *arguments, listen=f"fd://{descriptor}", env=env, pass_fds=(descriptor,))


@contextmanager
def attack(server: Server, options: Sequence[str], target: str) -> Iterator[None]:
    """slowhttptest, with all its connections at once."""
    command = [find_tool("slowhttptest"), *options, "-c", str(ATTACKERS), "-r", str(ATTACKERS), "-l", str(ATTACK_SECONDS)]
    env = {key: value for key, value in os.environ.items() if not key.lower().endswith("_proxy")}
    process = subprocess.Popen(
        [*command, "-p", "20", "-u", f"{server.url}{target}"],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("mode", ATTACKS)
def test_slow_clients_are_cut_and_hold_up_no_other(server_env: dict[str, str], mode: str) -> None:
    options, target = ATTACKS[mode]
    arguments = ["--workers", "1", "--threads", "2", *TIMEOUTS]
    with small_buffers() as listener, serving(arguments, listener, server_env) as server:
        (worker,) = server.worker_pids()
        idle = len(descriptors(worker))
        with Others(server) as undisturbed:
            threading.Event().wait(1)
        with attack(server, options, target), Others(server) as beside:
            assert wait_until(lambda: len(descriptors(worker)) >= idle + AT_ONCE, CUT_SECONDS), len(descriptors(worker))
            begun = time.monotonic()
            assert wait_until(lambda: len(descriptors(worker)) <= idle + 4 * OTHERS, CUT_SECONDS), len(descriptors(worker))
            lasted = time.monotonic() - begun
        print(f"\n{mode}: undisturbed {undisturbed}\n{mode}: beside the attack {beside}; it was over after {lasted:.1f} s")
        assert undisturbed.failures == beside.failures == []
        assert len(beside.seconds) >= 100
        assert beside.quantile(0.95) < PROMPT_SECONDS
        assert "Traceback" not in server.log
