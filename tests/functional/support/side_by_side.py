"""Runs gunicorn itself and `starman-uv gunicorn` with the same command line and configuration, to compare them."""

from __future__ import annotations

import http.client
import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from signal import SIGTERM

from tests.functional.support.harness import Process, wait_until

GUNICORN, STARMAN = "gunicorn", "starman"
# Variables of the machine that gunicorn reads.
PLAIN: dict[str, str | None] = {"PORT": None, "WEB_CONCURRENCY": None, "FORWARDED_ALLOW_IPS": None, "GUNICORN_CMD_ARGS": None}
# The field of every server, and those whose values differ between two requests.
UNCOMPARED = {"date", "server", "connection", "keep-alive", "transfer-encoding"}

Answer = tuple[int, list[tuple[str, str]], bytes]


class Running:
    """A server. port: of its listener on 127.0.0.1. directory: where it was started."""

    def __init__(self, process: Process, port: int, directory: Path) -> None:
        self.process = process
        self.port = port
        self.directory = directory

    def request(self, method: str, target: str, body: bytes | None = None, fields: dict[str, str] | None = None) -> Answer:
        """The status, the fields that can be compared, and the body of a response."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, target, body, {"Host": "shop.example", **(fields or {})})
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        kept = [(name, value) for name, value in response.getheaders() if name.lower() not in UNCOMPARED]
        return response.status, sorted(kept), content

    def lines(self, name: str) -> list[str]:
        """The lines of a file in its directory, without what differs between two runs, and with two spellings of the
        access log as gunicorn has them: of quotes, and of no bytes."""
        path = self.directory / name
        text = path.read_text().replace("\\x22", '\\"') if path.exists() else ""
        text = re.sub(r'(" \d{3}) - ', r"\1 0 ", text)
        return [re.sub(r"\[\d\d/\w+/\d{4}:[^\]]*\]", "[time]", line) for line in text.splitlines()]


@contextmanager
def running(server: str, directory: Path, arguments: Sequence[str], log: Path | None = None) -> Iterator[Running]:
    """A running server, started in `directory`, with `-b 127.0.0.1:0` or the like. `log`: its error log, if that is a
    file."""
    command = {GUNICORN: ["-m", "gunicorn", "--no-control-socket"], STARMAN: ["-m", "starman", "gunicorn"]}[server]
    process = Process([sys.executable, *command, *arguments], directory, {**PLAIN, "PWD": str(directory), "PYTHONHASHSEED": "0"})
    try:
        ready = {GUNICORN: r"Listening at: http://127\.0\.0\.1:(\d+)", STARMAN: r"ready: .* on http://127\.0\.0\.1:(\d+)"}[server]
        if log is None:
            port = process.wait_for(ready)[1]
        else:
            assert wait_until(lambda: log.exists() and re.search(ready, log.read_text()) is not None), process.log
            port = str(re.search(ready, log.read_text())[1])  # type: ignore[index]
        found = Running(process, int(port), directory)
        assert wait_until(lambda: _answers(found))
        yield found
        process.stop(SIGTERM, timeout=30)
    finally:
        if process.status is None:
            print(process.log)
        process.kill()


def _answers(server: Running) -> bool:
    """Whether a worker serves: gunicorn listens before it has one."""
    try:
        server.request("GET", "/ready")
    except OSError:
        return False
    return True
