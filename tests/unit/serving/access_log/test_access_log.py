"""starman.serving.access_log.access_log: whole lines, in batches, and no line that a client can forge."""

from __future__ import annotations

import base64
import errno
import os
import re
import select
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.errors import SettingError
from starman.log.output import Output, duplicate_high
from starman.serving.access_log import access_log as module
from starman.serving.access_log.access_log import AccessLog
from tests.unit.serving.access_log.environs import environ

COMBINED = re.compile(
    r"(?P<host>\S+) - (?P<user>\S+) \[(?P<time>\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4})\] "
    r'"(?P<request>[^"]*)" (?P<status>\d{3}) (?P<bytes>[1-9]\d*|-) "(?P<referrer>[^"]*)" "(?P<agent>[^"]*)"\n',
    re.ASCII,
)


def logged(path: Path, values: dict[str, Any], status: int = 200, size: int = 5) -> dict[str, str]:
    """The parts of the one line for these values."""
    log = AccessLog(str(path))
    log.add(values, status, size)
    log.close()
    text = path.read_bytes()
    path.unlink()
    assert text.isascii()
    match = COMBINED.fullmatch(text.decode())
    assert match is not None, text
    return match.groupdict()


def test_a_line_of_the_combined_format(tmp_path: Path) -> None:
    before = int(time.time())
    line = logged(tmp_path / "log", environ(HTTP_REFERER="http://r.test/", HTTP_USER_AGENT="agent/1.0 (x)"))
    assert line.pop("time")
    assert line == {
        "host": "192.0.2.7",
        "user": "-",
        "request": "GET /a?b HTTP/1.1",
        "status": "200",
        "bytes": "5",
        "referrer": "http://r.test/",
        "agent": "agent/1.0 (x)",
    }
    stamp = datetime.strptime(logged(tmp_path / "log", environ())["time"], "%d/%b/%Y:%H:%M:%S %z")
    assert before <= stamp.timestamp() <= time.time() + 1


@pytest.mark.parametrize(
    ("zone", "offset"), [("UTC0", "+0000"), ("AAA-05:45", "+0545"), ("BBB+03:30", "-0330"), ("CCC+00:30", "-0030")]
)
def test_the_offset_of_the_time_zone(zone: str, offset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        stamp = logged(tmp_path / "log", environ())["time"]
        assert stamp.endswith(offset)
        moment = datetime.strptime(stamp, "%d/%b/%Y:%H:%M:%S %z")
        assert abs((datetime.now(UTC) - moment).total_seconds()) < 5
    finally:
        monkeypatch.undo()
        time.tzset()


def test_a_client_that_went_is_499_and_nothing_is_a_dash(tmp_path: Path) -> None:
    line = logged(tmp_path / "log", environ(), 0, 0)
    assert (line["status"], line["bytes"], line["referrer"], line["agent"]) == ("499", "-", "-", "-")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ('a"b', r"a\x22b"),
        ("a\\b", r"a\x5cb"),
        ("a\r\nb", r"a\x0d\x0ab"),
        ("\x1b[31m", r"\x1b[31m"),
        ("\xe9\x7f\x85", r"\xe9\x7f\x85"),
        ("\t", r"\x09"),
        ("plain [] ' -", "plain [] ' -"),
    ],
)
def test_escaping(text: str, written: str, tmp_path: Path) -> None:
    line = logged(tmp_path / "log", environ(HTTP_USER_AGENT=text, HTTP_REFERER=text, REQUEST_URI=text))
    assert (line["agent"], line["referrer"], line["request"]) == (written, written, f"GET {written} HTTP/1.1")


@given(st.text(st.characters(max_codepoint=0x17F)))
def test_nothing_forges_a_line(text: str) -> None:
    lines: list[bytes] = []
    log = AccessLog(os.devnull)
    log._lines = lines
    credentials = base64.b64encode(text.encode("utf-8")).decode()
    log.add(
        environ(HTTP_USER_AGENT=text, HTTP_REFERER=text, REMOTE_ADDR=text or "-", HTTP_AUTHORIZATION=f"Basic {credentials}"),
        200,
        1,
    )
    (line,) = lines
    assert COMBINED.fullmatch(line.decode("latin-1")) is not None
    log.close()


@pytest.mark.parametrize(
    ("authorization", "user"),
    [
        ("Basic " + base64.b64encode(b"alice:secret").decode(), "alice"),
        ("basic " + base64.b64encode(b"alice:a:b").decode(), "alice"),
        ("BASIC   " + base64.b64encode(b"alice").decode(), "alice"),
        ("Basic " + base64.b64encode(b"two words:x").decode(), r"two\x20words"),
        ("Basic " + base64.b64encode(b'a"b\n:x').decode(), r"a\x22b\x0a"),
        ("Basic " + base64.b64encode("é:x".encode()).decode(), r"\xc3\xa9"),
        ("Basic " + base64.b64encode(b":x").decode(), "-"),
        ("Basic not base64!", "-"),
        ("Basic \xe9", "-"),
        ("Basic", "-"),
        ("Bearer abc", "-"),
        ("", "-"),
    ],
)
def test_the_user_of_basic_credentials(authorization: str, user: str, tmp_path: Path) -> None:
    line = logged(tmp_path / "log", environ(HTTP_AUTHORIZATION=authorization))
    assert line["user"] == user


def test_an_application_may_have_spoiled_its_environ(tmp_path: Path) -> None:
    assert logged(tmp_path / "log", {})["request"] == "- - -"
    spoiled = dict.fromkeys(environ()) | {"HTTP_USER_AGENT": 7, "HTTP_AUTHORIZATION": b"x", "HTTP_REFERER": "\u20ac"}
    line = logged(tmp_path / "log", spoiled)
    assert (line["request"], line["agent"], line["referrer"]) == ("None None None", "7", "?")
    assert logged(tmp_path / "log", environ(REMOTE_ADDR="1.2.3.4, 5.6.7.8"))["host"] == r"1.2.3.4,\x205.6.7.8"


def test_a_refusal(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "log"))
    log.add_refusal("192.0.2.7", 400)
    log.close()
    match = COMBINED.fullmatch((tmp_path / "log").read_text())
    assert match is not None
    assert match.group("host", "request", "status", "bytes") == ("192.0.2.7", "-", "400", "-")


def test_lines_wait_for_a_flush_or_a_full_batch(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    log = AccessLog(str(path))
    log.add(environ(), 200, 1)
    assert path.read_text() == "before\n"
    log.flush()
    assert path.read_text().count("\n") == 2
    while (size := path.stat().st_size) < 1000:
        log.add(environ(HTTP_USER_AGENT="x" * 1000), 200, 1)
    assert size >= 32_768
    log.close()
    text = path.read_text().removeprefix("before\n")
    assert all(COMBINED.fullmatch(line) for line in text.splitlines(keepends=True))


def test_standard_output_stays_open(capfd: pytest.CaptureFixture[str]) -> None:
    log = AccessLog("-")
    log.add(environ(), 200, 1)
    log.close()
    os.fstat(1)
    assert COMBINED.fullmatch(capfd.readouterr().out) is not None


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"access_log: cannot write .*/none/log: No such file or directory"):
        AccessLog(str(tmp_path / "none" / "log"))


WRITER = """
import sys
from starman.serving.access_log.access_log import AccessLog
log = AccessLog(sys.argv[1])
for number in range(2000):
    log.add({"REMOTE_ADDR": "h", "REQUEST_METHOD": sys.argv[2], "REQUEST_URI": f"/{number}/" + "u" * (number % 300),
             "SERVER_PROTOCOL": "HTTP/1.1"}, 200, 1)
    if number % 7 == 0:
        log.flush()
log.close()
"""


def test_several_processes_append_whole_lines_to_one_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    writers = [subprocess.Popen([sys.executable, "-c", WRITER, str(path), f"P{number}"]) for number in range(3)]
    assert [writer.wait(30) for writer in writers] == [0, 0, 0]
    seen: dict[str, list[int]] = {}
    for line in path.read_text().splitlines(keepends=True):
        match = COMBINED.fullmatch(line)
        assert match is not None
        method, uri, _ = match["request"].split(" ")
        seen.setdefault(method, []).append(int(uri.split("/")[1]))
    assert seen == {f"P{number}": list(range(2000)) for number in range(3)}


def test_threads_lose_no_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path))

    def work(number: int) -> None:
        for turn in range(500):
            log.add(environ(REQUEST_URI=f"/{number}/{turn}", HTTP_USER_AGENT="x" * 100), 200, 1)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    found = re.findall(r'"GET /(\d)/(\d+) HTTP/1.1"', path.read_text())
    assert sorted(found) == sorted((str(number), str(turn)) for number in range(4) for turn in range(500))
    for number in "0123":
        assert [int(turn) for found_number, turn in found if found_number == number] == list(range(500))


def test_a_pipe_gets_batches_that_stay_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    log = AccessLog(str(path))
    sizes: list[int] = []
    write = Output.write

    def counted(self: Output, data: bytes) -> int:
        sizes.append(len(data))
        assert data.endswith(b"\n")
        return write(self, data)

    monkeypatch.setattr(Output, "write", counted)
    for number in range(60):
        log.add(environ(HTTP_USER_AGENT="x" * (number * 7 % 500)), 200, 1)
    log.flush()
    assert len(sizes) > 1
    assert max(sizes) <= select.PIPE_BUF
    log.add(environ(HTTP_USER_AGENT="x" * 10_000), 200, 1)
    log.flush()
    assert sizes[-1] > 10_000
    monkeypatch.undo()
    text = os.read(reader, 1 << 20).decode()
    assert len(re.findall(COMBINED, text)) == text.count("\n") == 61
    log.close()
    os.close(reader)


def test_a_failing_disk_loses_lines_and_does_not_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    log = AccessLog(str(path))
    real = Output.write

    def full(self: Output, data: bytes) -> int:
        if self is log._output:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    monkeypatch.setattr(Output, "write", full)
    log.add(environ(), 200, 1)
    log.add(environ(), 200, 1)
    log.flush()
    monkeypatch.undo()
    assert "2 lines of the access log are lost: " in capfd.readouterr().err
    log.add(environ(), 200, 1)
    log.close()
    assert path.read_text().count("\n") == 1


@pytest.mark.parametrize("in_loop", [False, True])
def test_a_pipe_without_a_reader_bounds_the_memory_and_keeps_no_thread(
    in_loop: bool, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_BATCH_BYTES", 1000)
    monkeypatch.setattr(module, "_MOST_BYTES", 100_000)
    monkeypatch.setattr(module, "_FLUSH_SECONDS", 0.01)
    reading, writing = os.pipe()
    log = AccessLog(f"/proc/self/fd/{writing}", in_loop=in_loop)
    os.close(writing)
    for _ in range(10):
        for _ in range(2000):
            log.add(environ(), 200, 1)
        log.flush()
        assert log.has_unwritten
        assert log._bytes == sum(map(len, log._unsent)) < 102_000
    received = b""

    def read() -> None:
        nonlocal received
        while data := os.read(reading, 65_536):
            received += data

    reader = threading.Thread(target=read)
    reader.start()
    while log.has_unwritten:
        log.flush()
    log.add(environ(), 200, 1)
    log.close()
    reader.join()
    os.close(reading)
    assert received.endswith(b"\n")
    lost = sum(map(int, re.findall(r"(\d+) lines of the access log are lost: nothing read them in time", capfd.readouterr().err)))
    assert received.count(b"\n") + lost == 20_001
    assert len(re.findall(COMBINED, received.decode())) == received.count(b"\n")


def test_a_slow_reader_gets_all_that_is_written_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that a pipe does not take at once wait for the next flush, and not for the next tick."""
    monkeypatch.setattr(module, "_FLUSH_SECONDS", 30.0)
    reading, writing = os.pipe()
    log = AccessLog(f"/proc/self/fd/{writing}")
    os.close(writing)
    for _ in range(5000):
        log.add(environ(), 200, 1)
    received: list[bytes] = []
    reader = threading.Timer(0.1, lambda: received.extend(iter(lambda: os.read(reading, 65_536), b"")))
    reader.start()
    log.flush()
    assert not log.has_unwritten
    log.close()
    reader.join()
    assert b"".join(received).count(b"\n") == 5000
    os.close(reading)


def test_the_last_lines_wait_for_a_reader_and_then_are_counted(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "_LAST_SECONDS", 0.05)
    reading, writing = os.pipe()
    log = AccessLog(f"/proc/self/fd/{writing}")
    os.close(writing)
    for _ in range(2000):
        log.add(environ(), 200, 1)
    log.close()
    received = os.read(reading, 1 << 20)
    os.close(reading)
    lost = 2000 - received.count(b"\n")
    assert f"[WARNING] {lost} lines of the access log are lost: nothing read them in time" in capfd.readouterr().err


def test_a_fifo_that_no_process_reads_is_refused_at_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log"
    os.mkfifo(path)
    with pytest.raises(SettingError, match=r"access_log: cannot write .*/log: it is a FIFO that no process reads"):
        AccessLog(str(path))
    path.unlink()
    log = AccessLog(str(path))
    path.rename(tmp_path / "old")
    os.mkfifo(path)
    log.reopen()
    assert f"cannot reopen {path}: it is a FIFO that no process reads" in capfd.readouterr().err
    log.add(environ(), 200, 1)
    log.close()
    assert (tmp_path / "old").read_text().count("\n") == 1


def test_standard_output_that_is_closed_later_is_still_written_to(tmp_path: Path) -> None:
    """The lines must not go to the file that has descriptor 1 then."""
    script = "import os, sys; from starman.serving.access_log.access_log import AccessLog; log = AccessLog('-'); os.close(1);"
    script += (
        f"assert os.open({str(tmp_path / 'other')!r}, os.O_WRONLY | os.O_CREAT) == 1; log.add({environ()!r}, 200, 1); log.close()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert COMBINED.fullmatch(done.stdout) is not None
    assert (tmp_path / "other").read_text() == ""


def test_after_close_nothing_is_written_to_a_file_with_the_same_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread of an application may outlive the service in a process that embeds it."""
    monkeypatch.setattr(module, "_BATCH_BYTES", 1)
    path = tmp_path / "log"
    log = AccessLog(str(path))
    assert log._output is not None
    number = log._output.fd
    log.close()
    written = path.read_bytes()
    opened = os.open(tmp_path / "other", os.O_RDWR | os.O_CREAT)
    other = duplicate_high(opened)
    os.close(opened)
    try:
        assert other == number
        log.add(environ(), 200, 5)
        log.flush()
        log.reopen()
        log.close()
        assert os.fstat(other).st_size == 0
        assert os.path.samestat(os.fstat(other), (tmp_path / "other").stat())
    finally:
        os.close(other)
    assert path.read_bytes() == written
