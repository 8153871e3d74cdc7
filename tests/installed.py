"""Checks an installed starman from outside of its sources, as a user meets it: `python tests/installed.py KIND`.

KIND is "compiled" or "plain". The command `starman-uv` serves a Flask application, and answers a request. Imports
nothing of the tests, so that it runs in an environment that has only starman and Flask.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
import urllib.request

APPLICATION = """\
from flask import Flask, request

app = Flask(__name__)

@app.post("/")
def hello():
    return f"{len(request.get_data())} bytes"
"""
SECONDS = 60.0


def check(kind: str) -> str:
    """What the installed command says of itself. Raises AssertionError if it is of another kind, or does not serve."""
    command = os.path.join(sysconfig.get_path("scripts"), "starman-uv")
    version = subprocess.run([command, "--version"], capture_output=True, text=True, check=True, timeout=SECONDS).stdout
    assert ("(compiled)" in version) == (kind == "compiled"), version
    with tempfile.TemporaryDirectory() as directory:
        with open(os.path.join(directory, "app.py"), "w", encoding="utf-8") as file:
            file.write(APPLICATION)
        server = subprocess.Popen(
            [command, "--listen", "127.0.0.1:0", "--workers", "2"], cwd=directory, stderr=subprocess.PIPE, text=True
        )
        try:
            assert server.stderr is not None
            log = ""
            while "ready: " not in log:
                line = server.stderr.readline()
                assert line, log
                log += line
            found = re.search(r"http://\S+", log)
            assert found is not None, log
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            body = opener.open(found[0], b"x" * 2_000_000, timeout=SECONDS).read()
            assert body == b"2000000 bytes", body
        finally:
            server.send_signal(signal.SIGTERM)
            rest = server.communicate(timeout=SECONDS)[1]
        assert server.returncode == 0, log + rest
        assert "WARNING" not in log + rest, log + rest
    return version.strip()


if __name__ == "__main__":
    print(f"{check(sys.argv[1])} serves Flask on CPython {sys.version.split()[0]}")
