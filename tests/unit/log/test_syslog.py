"""starman.log.syslog: messages reach a daemon as RFC 5424 says, outlive its restart, and are counted when they are
lost."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from starman.errors import SettingError
from starman.log.formats import ERROR, FORMATS, INFO, Format, Record
from starman.log.queue import LogQueue
from starman.log.syslog import MOST_BYTES, SyslogFormat, SyslogOutput, open_syslog
from starman.log.syslog_target import parse_target

# RFC 5424 §6, without structured data.
RFC_5424 = re.compile(
    rb"<(?P<priority>\d{1,3})>1 (?P<stamp>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}[+-]\d\d:\d\d) (?P<host>[!-~]{1,255}) "
    rb"(?P<name>[!-~]{1,48}) (?P<pid>[!-~]{1,128}) (?P<id>[!-~]{1,32}) - (?P<message>.*)",
    re.DOTALL,
)


def body() -> Format:
    return FORMATS["text"]


def notices(count: int, reason: str) -> list[bytes]:
    return [f"{count} lost: {reason}\n".encode()]


def daemon(path: Path) -> socket.socket:
    """A daemon with a new socket at `path`."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    made.bind(str(path))
    made.settimeout(10)
    return made


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def queue() -> Iterator[LogQueue]:
    made = LogQueue(notices)
    yield made
    made.close_output()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("syslog", "/dev/log"),
        ("syslog:/run/x", "/run/x"),
        ("syslog:./x", "./x"),
        ("syslog:logs.example", "logs.example:514 (UDP)"),
        ("syslog:127.0.0.1:5514", "127.0.0.1:5514 (UDP)"),
        ("syslog:[::1]:5514", "[::1]:5514 (UDP)"),
        ("syslog:[::1]", "[::1]:514 (UDP)"),
    ],
)
def test_targets(text: str, shown: str) -> None:
    assert str(parse_target(text)) == shown


WRONG = ("syslog:", "syslog::514", "syslog:host:0", "syslog:host:x", "syslog:host:65536", "syslog:::1", "syslog:[::1")


@pytest.mark.parametrize("text", WRONG)
def test_wrong_targets(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse_target(text)


def test_a_record_is_one_message(path: Path, queue: LogQueue) -> None:
    with daemon(path) as receiver:
        form = SyslogFormat(body, journal=False)
        queue.exchange_output(open_syslog("error_log", f"syslog:{path}", SyslogOutput))
        queue.put(form.encode(Record(ERROR, "failed\nsecond line\x1b", 4711)), whole=True)
        found = RFC_5424.fullmatch(receiver.recv(65536))
    assert found
    assert int(found["priority"]) == 3 * 8 + 3
    assert (found["name"], found["pid"], found["id"]) == (b"starman", b"4711", b"error")
    assert found["message"] == b"failed\n  second line\\x1b"


def test_the_message_may_be_json(path: Path) -> None:
    form = SyslogFormat(lambda: FORMATS["json"], journal=False)
    (entry,) = form.encode(Record(INFO, "ready", 1))
    found = RFC_5424.fullmatch(entry.rstrip())
    assert found
    assert found["message"].startswith(b'{"timestamp": ')


def test_the_journal_gets_the_traditional_format() -> None:
    form = SyslogFormat(body, journal=True)
    (entry,) = form.encode(Record(INFO, "ready", 12))
    assert re.fullmatch(rb"<30>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d starman\[12\]: ready\n", entry)


def test_a_long_text_is_several_messages() -> None:
    text = "first\n" + "\n".join("y" * 300 for _ in range(100)) + "\n" + "z" * 20_000
    entries = SyslogFormat(body, journal=False).encode(Record(INFO, text, 1))
    messages = []
    for entry in entries:
        found = RFC_5424.fullmatch(entry[:-1])
        assert found
        messages.append(found["message"])
    assert max(map(len, messages)) <= MOST_BYTES
    joined = b"\n".join(messages)
    assert joined.count(b"y") == 30_000
    assert joined.count(b"z") == 20_000


def test_no_daemon_is_a_clear_error(path: Path) -> None:
    with pytest.raises(SettingError, match="no syslog daemon has made this socket; start the daemon") as caught:
        open_syslog("error_log", f"syslog:{path}", SyslogOutput)
    assert str(path) in str(caught.value)


def test_a_restarted_daemon_gets_what_was_written_meanwhile(path: Path, queue: LogQueue) -> None:
    first = daemon(path)
    queue.exchange_output(SyslogOutput(parse_target(f"syslog:{path}")))
    queue.put([b"one\n"], whole=True)
    assert first.recv(100) == b"one"
    first.close()
    queue.put([b"two\n"], whole=True)
    path.unlink()
    queue.put([b"three\n"], whole=True)
    assert queue.pending
    with daemon(path) as second:
        queue.write_pending()
        assert [second.recv(100), second.recv(100)] == [b"two", b"three"]
    assert not queue.pending


def test_a_daemon_that_does_not_read_holds_up_no_writer(path: Path, queue: LogQueue) -> None:
    with daemon(path) as receiver:
        queue.exchange_output(SyslogOutput(parse_target(f"syslog:{path}")))
        for number in range(3000):
            queue.put([b"%04d %s\n" % (number, b"x" * 990)], whole=True)
        assert queue.pending
        received = []
        while queue.pending or len(received) < 10:
            received.append(receiver.recv(2000))
            queue.write_pending()
        receiver.setblocking(False)
        try:
            while True:
                received.append(receiver.recv(2000))
        except BlockingIOError:
            pass
    *messages, last = received
    assert [int(message[:4]) for message in messages] == list(range(len(messages)))
    assert last == b"%d lost: nothing read them in time" % (3000 - len(messages))


def test_a_descriptor_that_the_application_has_closed_and_used_again(path: Path, tmp_path: Path, queue: LogQueue) -> None:
    with daemon(path) as receiver:
        output = SyslogOutput(parse_target(f"syslog:{path}"))
        queue.exchange_output(output)
        stolen = output.fd
        with open(tmp_path / "other", "wb") as other:
            os.dup2(other.fileno(), stolen)
            queue.put([b"one\n"], whole=True)
            os.close(stolen)
        assert receiver.recv(100) == b"one"
    assert (tmp_path / "other").read_bytes() == b""


def test_what_udp_refuses_is_counted(queue: LogQueue) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", 0))
        receiver.settimeout(10)
        port = receiver.getsockname()[1]
        queue.exchange_output(SyslogOutput(parse_target(f"syslog:127.0.0.1:{port}")))
        queue.put([b"one\n"], whole=True)
        assert receiver.recv(100) == b"one"
    for _ in range(4):
        queue.put([b"lost\n"], whole=True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver:
        receiver.bind(("127.0.0.1", port))
        receiver.settimeout(10)
        queue.put([b"two\n"], whole=True)
        queue.put([b"three\n"], whole=True)
        received = []
        while b"three" not in received:
            received.append(receiver.recv(100))
    assert b"two" in received
    assert sum(int(message.split()[0]) for message in received if b"refused" in message) >= 4
