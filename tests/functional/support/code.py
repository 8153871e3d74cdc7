"""A small application that a test changes or breaks while the server runs, and the processes of that server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.functional.support.harness import NotReadyError, Server

APPLICATION = """\
import os, random, resource, time

VERSION = {version!r}
AT_IMPORT = random.random()

def app(environ, start_response):
    path = environ["PATH_INFO"]
    if path.startswith("/sleep/"):
        with open("sleeping", "a") as file:
            file.write("x")
        time.sleep(float(path.split("/")[2]))
    answers = {{
        "/pid": os.getpid(),
        "/random": random.random(),
        "/descriptors": resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    }}
    body = str(answers.get(path, VERSION)).encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
"""

MODES = pytest.mark.parametrize("mode", ["--no-preload-app", "--preload-app"])

# An application that names itself.
HELLO = "def app(environ, start_response):\n    start_response('200 OK', [])\n    return [b'from %s']\n"


class Code:
    """The file of the application under test, and servers that run it."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.file = directory / "site_app.py"
        self.write("one")

    def write(self, version: str, more: str = "") -> None:
        """Have the application answer `version`; `more` stands at the end of its module."""
        self.file.write_text(APPLICATION.format(version=version) + more)

    def serve(self, *arguments: str, listen: str = "127.0.0.1:0") -> Server:
        """A server of two workers, unless the arguments say otherwise."""
        if "--workers" not in arguments:
            arguments = ("--workers", "2", *arguments)
        # Python uses a cached module if its source has the same size and second: tests write faster than that.
        return Server("site_app:app", *arguments, listen=listen, cwd=self.directory, env={"PYTHONDONTWRITEBYTECODE": "1"})

    def fails(self, *arguments: str, listen: str = "127.0.0.1:0") -> NotReadyError:
        """How a server of this code fails to start."""
        with pytest.raises(NotReadyError) as refused, self.serve(*arguments, listen=listen):
            pass
        return refused.value


def answers(server: Server, target: str = "/") -> set[str]:
    """What a few new connections are told; with two workers, they usually meet both."""
    found = set()
    for _ in range(12):
        with server.client() as client:
            found.add(client.get(target).body.decode())
    return found


def title(pid: int) -> str:
    """The title of a process, "" when it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def molds(server: Server) -> list[int]:
    return [pid for pid in server.children() if "starman mold" in title(pid)]


def sockets(pid: int) -> set[str]:
    """The sockets and pipes that a process holds above descriptor 2, but for the error log: that is where descriptor 2
    leads."""
    found = set()
    log = os.readlink(f"/proc/{pid}/fd/2")
    for name in os.listdir(f"/proc/{pid}/fd"):
        if int(name) > 2:
            try:
                target = os.readlink(f"/proc/{pid}/fd/{name}")
            except FileNotFoundError:
                continue
            if target.startswith(("socket:", "pipe:")) and target != log:
                found.add(target)
    return found
