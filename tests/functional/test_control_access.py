"""Which users may use the control socket, and which servers have one: embedded servers, and those of other users."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from starman.commands.client import Client, CommandError
from tests.functional.support.commands_for_servers import status_of
from tests.functional.support.harness import Process, Server
from tests.functional.support.tools import need_root

STRANGER = """\
import contextlib, os, socket, sys
os.setuid(65534)
connection = socket.socket(socket.AF_UNIX)
connection.settimeout(20)
connection.connect("\\0starman/" + sys.argv[1])
with contextlib.suppress(BrokenPipeError):  # the refusal may come first
    connection.sendall(b'{"command": "stop"}\\n')
sys.stdout.write(connection.makefile().readline())
"""

FIND = """\
import os
from starman.commands.servers import find_servers
os.setuid(65534)
print([server.pid for server in find_servers()])
"""

PROGRAM = """\
import starman

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"fine"]

starman.run(app, listen="127.0.0.1:0", workers=1)
"""


def test_another_user_is_refused_and_finds_no_server() -> None:
    need_root()
    with Server(None, "--workers", "1", "-e", "lambda environ, start_response: []") as server:
        words = [sys.executable, "-c", STRANGER, str(server.pid)]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(done.stdout) == {"error": "only the user of the server and root may use its control socket"}
        done = subprocess.run([sys.executable, "-c", FIND], capture_output=True, text=True, timeout=60, check=True)
        assert str(server.pid) not in done.stdout
        assert status_of(server)["phase"] == "running"


def test_a_program_that_embeds_the_server_is_found_by_its_process_id(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    server = Process([sys.executable, "program.py"], cwd=tmp_path, env={"PYTHONPATH": str(Path(__file__).parents[2])})
    try:
        server.wait_for("ready: 1 worker")
        status = status_of(server)
        assert (status["pid"], status["workers_ready"]) == (server.pid, 1)
    finally:
        assert server.stop() == 0


def test_a_refusal_is_read_by_a_client_that_could_not_send_its_command_any_more() -> None:
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"error": "only the user of the server may ask"}\n')
    theirs.close()
    with Client(ours) as client, pytest.raises(CommandError, match=r"^only the user of the server may ask$"):
        client.request("status")
