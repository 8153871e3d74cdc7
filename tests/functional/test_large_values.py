"""Very large values: every numeric setting works with them, or is refused with its name and the valid range.

The settings come from the table, so a new one is tested as well.
"""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from starman.config.settings import OPTIONS, Option
from starman.config.value_parsing import LARGEST
from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.commands import starman
from tests.functional.support.harness import APPLICATION, Server
from tests.functional.support.wire import encode_request

NUMBERS = [setting for setting in OPTIONS.values() if setting.kind.most is not None]
TIMES = [setting for setting in NUMBERS if setting.kind.unit == "seconds"]
COUNTS = [setting for setting in NUMBERS if setting.kind.unit != "seconds"]
# A server with so many would use up the machine, or cannot be told where it is.
NOT_STARTED = {"workers", "threads", "port"}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(tmp_path_factory.mktemp("pair"), "server")


def try_everything(server: Server, pair: Pair) -> None:
    """Serve plain and encrypted, with a body and without, restart, upgrade, and stop while a request runs."""
    for occasion in ("start", signal.SIGHUP, signal.SIGUSR2):
        if isinstance(occasion, signal.Signals):
            server.signal(occasion)
            server.wait_for(r"restarted: 1 worker is new", 60, count=1 if occasion is signal.SIGHUP else 2)
        # Each on a connection of its own: after a restart, a worker that ends may accept one more, for one request.
        with server.client() as client:
            assert client.get("/hello").status == 200
        with server.client() as client:
            assert client.request("POST", "/digest", body=b"x" * 3_000_000).status == 200
        with TlsClient(server.ports[1], pair) as client:
            assert client.get("/hello").status == 200
    assert server.stop(signal.SIGTERM) == 0
    for word in ("ERROR", "WARNING", "Traceback", "Error"):
        assert word not in server.log, server.log


@pytest.mark.parametrize("seconds", ["2592000", "1e9", "1e15", "1e308"])
def test_all_time_settings_at_once(seconds: str, pair: Pair) -> None:
    assert {setting.name for setting in TIMES} >= {"worker_timeout", "boot_timeout", "graceful_timeout", "keepalive_timeout"}
    arguments = [argument for setting in TIMES for argument in (setting.flag, seconds)]
    listeners = ["127.0.0.1:0", "127.0.0.1:0:ssl"]
    with Server(APPLICATION, "--workers", "1", *pair.arguments, *arguments, listen=listeners) as server:
        try_everything(server, pair)


def test_all_counts_at_once_as_large_as_they_may_be(pair: Pair) -> None:
    tried = [setting for setting in COUNTS if setting.name not in NOT_STARTED]
    assert {setting.name for setting in tried} >= {"backlog", "max_requests", "max_requests_jitter", "max_body", "restart_batch"}
    arguments = [argument for setting in tried for argument in (setting.flag, str(setting.kind.most))]
    listeners = ["127.0.0.1:0", "127.0.0.1:0:ssl"]
    with Server(APPLICATION, "--workers", "1", *pair.arguments, *arguments, listen=listeners) as server:
        with server.client() as client:
            # The settings grant this body more memory than any machine has. Its connection is left open meanwhile.
            client.send(encode_request("POST", "/echo", [("Content-Length", str(LARGEST // 2))]) + b"x" * 200_000)
            with server.client() as other:
                assert other.get("/hello").status == 200
            client.send(b"x" * 3_000_000)
            with server.client() as other:
                assert other.get("/hello").status == 200
        try_everything(server, pair)


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.name)
def test_what_is_too_large_is_refused_by_name(setting: Option, tmp_path: Path) -> None:
    too_large = "1" + "0" * (400 if setting in TIMES else 30)
    for value in (too_large, "9" * 5000):
        done = starman(setting.flag, value, "--print-config")
        assert done.returncode == 2, done
        assert done.stderr.startswith(f"starman: {setting.flag}: ")
        assert setting.kind.valid in done.stderr
        assert "Traceback" not in done.stderr
        assert len(done.stderr) < 600
        (tmp_path / "starman.toml").write_text(f"{setting.name} = {value}\n")
        done = starman("--print-config", cwd=tmp_path)
        assert (done.returncode, "Traceback" in done.stderr) == (2, False), done


@pytest.mark.parametrize(
    ("arguments", "variables", "words"),
    [
        (["--listen", "fd://" + "9" * 12], {}, "inherited descriptor"),
        (["--listen", "fd://" + "9" * 5000], {}, "inherited descriptor"),
        ([], {"SERVER_STARTER_PORT": "80=" + "9" * 5000}, "SERVER_STARTER_PORT"),
        ([], {"SERVER_STARTER_PORT": "80=" + "9" * 12}, "SERVER_STARTER_PORT"),
    ],
)
def test_numbers_of_descriptors(arguments: list[str], variables: dict[str, str | None], words: str) -> None:
    done = starman(*arguments, APPLICATION, env=variables)
    assert done.returncode == 2, done
    assert words in done.stderr
    assert "Traceback" not in done.stderr
