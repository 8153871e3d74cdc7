"""--log-level, --log-format and syslog: what the error log of a real server has, and where it goes."""

from __future__ import annotations

import datetime
import json
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from tests.functional.support.commands import starman
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.tools import find_tool

APPLICATION = """
def app(environ, start_response):
    if environ["PATH_INFO"] == "/error":
        raise ValueError("“broken”")
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"fine"]
"""

RFC_5424 = re.compile(r"<(\d+)>1 (\S+) \S+ starman (\d+) error - (.*)", re.DOTALL)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APPLICATION)
    return tmp_path


def get(server: Server, path: str) -> int:
    with server.client() as client:
        return client.get(path).status


def records(text: str) -> list[dict[str, object]]:
    """Every line as an object: nothing else may be in the log."""
    return [json.loads(line) for line in text.splitlines()]


def test_a_level_hides_what_is_below_it_and_hup_changes_it(directory: Path) -> None:
    path = directory / "log"
    config = directory / "starman.toml"
    config.write_text('log_level = "error"\n')
    with Server(
        "app:app", "--error-log", str(path), "--workers", "1", cwd=directory, ready=False, listen=f"{directory}/s"
    ) as server:
        assert wait_until(lambda: (directory / "s").exists() and get_status(server) == 500, 30)
        assert wait_until(lambda: "ValueError" in path.read_text(), 10)
        text = path.read_text()
        assert "[INFO]" not in text
        assert "[ERROR]" in text
        config.write_text('log_level = "info"\n')
        server.signal(signal.SIGHUP)
        assert wait_until(lambda: "[INFO]" in path.read_text(), 30)


def test_debug_tells_of_each_process(directory: Path) -> None:
    with Server("app:app", "--log-level", "debug", "--workers", "1", cwd=directory) as server:
        (pid,) = server.worker_pids()
        server.wait_for(rf"\[{server.pid}\] \[DEBUG\] worker 1 \({pid}\) is ready")
        server.stop()
        assert re.search(rf"\[DEBUG\] worker 1 \({pid}\) exited with status 0", server.log)


def get_status(server: Server) -> int:
    try:
        return get(server, "/error")
    except OSError:
        return 0


def test_json_has_one_object_a_line_and_tracebacks_in_it(directory: Path) -> None:
    path = directory / "log"
    arguments = ("--error-log", str(path), "--log-format", "json", "--workers", "2")
    with Server("app:app", *arguments, cwd=directory, ready=False, listen=f"{directory}/s") as server:
        assert wait_until(lambda: path.exists() and "ready" in path.read_text(), 30)
        assert get(server, "/error") == 500
        assert wait_until(lambda: "stacktrace" in path.read_text(), 10)
    found = records(path.read_text())
    failure = next(record for record in found if record["severity"] == "ERROR")
    assert failure["exception.type"] == "ValueError"
    assert failure["exception.message"] == "“broken”"
    assert str(failure["exception.stacktrace"]).count("\n") >= 2
    assert failure["process.pid"] != server.pid
    assert datetime.datetime.fromisoformat(str(failure["timestamp"])).tzinfo is not None
    assert any(record["process.pid"] == server.pid for record in found)


@pytest.mark.parametrize("kind", ["unix", "udp"])
def test_syslog_gets_the_records_of_every_process(directory: Path, kind: str) -> None:
    if kind == "unix":
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(str(directory / "log"))
        target = "syslog:./log"
    else:
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 0))
        target = f"syslog:127.0.0.1:{receiver.getsockname()[1]}"
    receiver.settimeout(30)
    messages: list[re.Match[str]] = []

    def read_until(words: str) -> re.Match[str]:
        while not (messages and words in messages[-1][4]):
            found = RFC_5424.fullmatch(receiver.recv(65536).decode())
            assert found
            messages.append(found)
        return messages[-1]

    arguments = ("--error-log", target, "--workers", "2")
    with receiver, Server("app:app", *arguments, cwd=directory, ready=False, listen=f"{directory}/s") as server:
        ready = read_until(" ready: ")
        assert (ready[1], int(ready[3])) == (str(3 * 8 + 6), server.pid)
        assert get(server, "/error") == 500
        failure = read_until("“broken”")
        assert failure[1] == str(3 * 8 + 3)
        assert int(failure[3]) in server.worker_pids()
        assert server.stop() == 0
        read_until("has ended")
    assert server.log == ""


def test_a_restarted_daemon_is_found_again(directory: Path) -> None:
    path = directory / "log"
    first = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    first.bind(str(path))
    first.settimeout(30)
    with Server("app:app", "--error-log", f"syslog:{path}", cwd=directory, ready=False, listen=f"{directory}/s") as server:
        while b" ready: " not in first.recv(65536):
            pass
        first.close()
        path.unlink()
        assert get(server, "/error") == 500
        server.signal(signal.SIGHUP)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as second:
            second.bind(str(path))
            second.settimeout(30)
            received = b""
            while not (b"broken" in received and b"restarting the workers" in received):
                received += second.recv(65536)


def test_without_a_daemon_the_start_fails_and_says_why(directory: Path) -> None:
    done = starman("--error-log", f"syslog:{directory}/log", "--listen", f"{directory}/s", "app:app", cwd=directory)
    assert done.returncode == 2
    assert f"error_log: cannot send to syslog at {directory}/log: no syslog daemon has made this socket" in done.stderr
    done = starman("--error-log", "syslog:host:port", "app:app", cwd=directory)
    assert done.returncode == 2
    assert "'port' is not a port; error_log takes" in done.stderr


def test_rsyslogd_understands_the_messages(directory: Path) -> None:
    program = find_tool("rsyslogd")
    log = directory / "log"
    fields = "%app-name%|%procid%|%msgid%|%syslogseverity-text%|%protocol-version%|%msg%"
    (directory / "rsyslog.conf").write_text(
        f'module(load="imuxsock" SysSock.Use="off")\n'
        f'input(type="imuxsock" Socket="{log}" CreatePath="on" UseSpecialParser="off" ParseHostname="on")\n'
        f'template(name="fields" type="string" string="{fields}\\n")\n'
        f'*.* action(type="omfile" file="{directory}/out" template="fields")\n'
    )
    daemon = subprocess.Popen([program, "-n", "-f", f"{directory}/rsyslog.conf", "-i", f"{directory}/pid"])
    try:
        assert wait_until(log.exists, 30)
        out = directory / "out"
        arguments = ("--error-log", f"syslog:{log}", "--workers", "1")
        with Server("app:app", *arguments, cwd=directory, ready=False, listen=f"{directory}/s") as server:
            assert wait_until(lambda: out.exists() and " ready: " in out.read_text(), 30)
            assert f"starman|{server.pid}|error|info|1|" in out.read_text()
            assert get(server, "/error") == 500
            assert wait_until(lambda: "|error|err|1|" in out.read_text(), 30)
    finally:
        daemon.terminate()
        daemon.wait(30)


def test_the_access_log_goes_to_syslog(directory: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(directory / "log"))
        receiver.settimeout(30)
        with Server("app:app", "--access-log", f"syslog:{directory}/log", cwd=directory) as server:
            for number in range(3):
                assert get(server, f"/{number}") == 200
            found = [receiver.recv(65536).decode() for _ in range(3)]
    assert all(re.match(r"<30>1 \S+ \S+ starman \d+ access - 127\.0\.0\.1 - - \[", text) for text in found)
    assert sorted(text.partition('"GET ')[2][:2] for text in found) == ["/0", "/1", "/2"]
