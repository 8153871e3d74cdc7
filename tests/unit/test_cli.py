"""The command: what it prints, and its exit status."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from starman import cli
from starman.config.settings import OPTIONS, GivenValue, Settings
from starman.errors import LoadError, StartError
from starman.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
APP = "def app(environ, start_response):\n    return []\n"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, and no STARMAN_* variables."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("STARMAN_")]:
        monkeypatch.delenv(name)
    return tmp_path


def command(*argv: str, cwd: Path, **environ: str) -> tuple[int, str, str]:
    """Run the command in a process of its own."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith("STARMAN_")}
    variables |= {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", **environ}
    arguments = [sys.executable, "-m", "starman", *argv]
    done = subprocess.run(arguments, cwd=cwd, env=variables, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, done.stdout, done.stderr


def test_help_is_grouped_and_fits_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    flat = " ".join(text.split())
    for setting in OPTIONS.values():
        assert f"\n{setting.group}:\n" in text
        assert " ".join(setting.help.split()) in flat
        if not setting.positional:
            assert f"Default: {setting.default_text}." in flat
            assert all(flag in text for flag in setting.flags)
    assert "Default: 30 seconds." in flat
    for words in (
        "--[no-]preload-app",
        "--header-timeout, --read-timeout SECONDS",
        "--config FILE",
        "--check",
        "module:factory()",
    ):
        assert words in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"starman {VERSION}\n"


def test_print_config_shows_values_and_sources(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, directory: Path
) -> None:
    (directory / "starman.toml").write_text('max-body = "64M"\nsocket-mode = "660"\n')
    monkeypatch.setenv("STARMAN_THREADS", "7")
    assert cli.main(["--print-config", "--workers", "3", "-l", ":80", "-l", "@x", "-e", "f(\n1)"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:] for line in lines}
    assert list(rows) == list(OPTIONS)
    assert rows["workers"] == ["3", "--workers"]
    assert rows["threads"] == ["7", "STARMAN_THREADS"]
    assert rows["max_body"] == ["64M", "starman.toml:", "max-body"]
    assert rows["socket_mode"] == ["0660", "starman.toml:", "socket-mode"]
    assert rows["listen"] == [":80,", "@x", "--listen"]
    assert rows["eval"] == ["f(", "1)", "--eval"]
    assert rows["host"] == ["none", "default"]
    # Values of more than 40 characters move their source to the right.
    columns = {line.rindex(" default") for line in lines if line.endswith(" default") and "X-FORWARDED" not in line}
    assert len(columns) == 1


@pytest.mark.parametrize("option", ["--help", "--version", "--print-config"])
def test_a_reader_that_has_gone_is_no_error(directory: Path, option: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    arguments = [sys.executable, "-m", "starman", option]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(arguments, env=environ, stdout=writing, stderr=subprocess.PIPE, timeout=30, check=False)
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="Linux only")
def test_an_output_that_is_full_is_one_line(directory: Path) -> None:
    arguments = [sys.executable, "-m", "starman", "--help"]
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    with open("/dev/full", "wb") as full:
        done = subprocess.run(arguments, env=environ, stdout=full, stderr=subprocess.PIPE, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (1, b"starman: cannot write to standard output: No space left on device\n")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--wrokers", "3"], "starman: --wrokers: unknown option; did you mean '--workers'?; --help lists the options\n"),
        (["--threads", "-1"], "starman: --threads: '-1' is not valid; threads takes a whole number, from 0 to 10000\n"),
        (["--config", "none.toml"], "starman: --config: no such file: 'none.toml'\n"),
    ],
)
def test_a_wrong_setting_is_one_line_and_status_2(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(argv) == 2
    assert capsys.readouterr() == ("", message)


def fake_server(monkeypatch: pytest.MonkeyPatch, outcome: int | BaseException) -> list[Settings]:
    """A `starman.server` with a run_master that notes its settings, and returns or raises `outcome`."""
    seen: list[Settings] = []

    def run_master(settings: Settings, reread: Callable[[], Settings], handover: object) -> int:
        seen.append(settings)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    server = types.ModuleType("starman.server")
    server.run_master = run_master  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "starman.server", server)
    return seen


def test_serving_is_the_masters(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = fake_server(monkeypatch, 7)
    monkeypatch.setattr(sys, "argv", ["starman-uv", "a:b", "--threads", "2"])
    assert cli.main() == 7
    assert (seen[0].app, seen[0].threads) == ("a:b", 2)


def test_an_error_of_the_masters(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_server(monkeypatch, StartError("no worker became ready", "line 1\nline 2"))
    assert cli.main(["a:b"]) == 1
    assert capsys.readouterr().err == "starman: no worker became ready\nline 1\nline 2\n"


def test_ctrl_c_is_quiet(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    fake_server(monkeypatch, KeyboardInterrupt())
    assert cli.main(["a:b"]) == 130
    assert capsys.readouterr() == ("", "")


def test_report_without_details(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.report(LoadError("nothing there")) == 1
    assert capsys.readouterr().err == "starman: nothing there\n"


# --check, in a process of its own: it forks


def test_check_of_a_good_application(directory: Path) -> None:
    (directory / "shop.py").write_text(APP)
    status, out, err = command("--check", "shop:app", "--port", "0", cwd=directory, STARMAN_THREADS="2")
    assert (status, err) == (0, "")
    assert "application  shop:app: loaded" in out
    assert "listening    0.0.0.0:0" in out
    assert "APPLICATION, --port, STARMAN_THREADS" in out


def test_check_of_a_broken_application(directory: Path) -> None:
    (directory / "shop.py").write_text("def connect():\n    raise OSError('no database')\nconnect()\n")
    status, out, err = command("--check", "shop:app", cwd=directory)
    assert (status, out) == (1, "")
    assert err.startswith("starman: cannot load 'shop:app': OSError: no database\nTraceback")
    assert "in connect" in err
    assert "loading.py" not in err


def test_check_warms_up_as_a_worker_does(directory: Path) -> None:
    (directory / "shop.py").write_text("def app(environ, start_response):\n    raise OSError('no template')\n")
    assert command("--check", "shop:app", cwd=directory)[0] == 0
    status, out, err = command("--check", "shop:app", "--warm-up", "/front", cwd=directory)
    assert (status, out) == (1, "")
    assert "no template" in err
    assert "/front" in err


def test_check_of_a_missing_application(directory: Path) -> None:
    status, out, err = command("--check", cwd=directory)
    assert (status, out) == (1, "")
    assert err.count("\n") == 1
    assert f"none found in {directory}" in err


def test_check_survives_threads_and_exits_of_the_application(directory: Path) -> None:
    (directory / "busy.py").write_text("import threading\nthreading.Thread(target=threading.Event().wait).start()\n" + APP)
    assert command("--check", "busy:app", cwd=directory)[0] == 0
    (directory / "leaves.py").write_text("import os\nos._exit(5)\n")
    assert command("--check", "leaves:app", cwd=directory)[0] == 5
    (directory / "dies.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    status, _, err = command("--check", "dies:app", cwd=directory)
    assert (status, err) == (1, "starman: the process that loads the application was ended by signal 9\n")


def test_check_warns_of_what_has_no_effect(directory: Path) -> None:
    (directory / "app.py").write_text(APP)
    status, _, err = command("--check", "--listen", ":80", "--port", "81", cwd=directory)
    assert (status, err) == (0, "starman: --port has no effect together with --listen\n")


def test_check_of_a_wrong_variable(directory: Path) -> None:
    status, _, err = command("--check", cwd=directory, STARMAN_WORKER="3")
    assert (status, err) == (2, "starman: STARMAN_WORKER: unknown variable; did you mean 'STARMAN_WORKERS'?\n")


def test_print_config_shows_which_address_counts() -> None:
    port = {"port": GivenValue("8171", "PORT")}
    lines = [" ".join(line.split()) for line in cli.config_text(Settings(port)).splitlines()]
    assert "listen 0.0.0.0:8171 by port" in lines
    assert "port 8171 PORT" in lines
    both = Settings({**port, "listen": GivenValue([":80"], "--listen")})
    lines = [" ".join(line.split()) for line in cli.config_text(both).splitlines()]
    assert "port 8171 PORT (not used, because of listen)" in lines
    assert any(line.startswith("listen ") and line.endswith(":80 --listen") for line in lines)
