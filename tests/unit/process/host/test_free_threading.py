"""starman.process.host.free_threading: the notice on a free-threaded build of Python, which is a fake here."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from starman.process.host import free_threading
from tests.functional.support.harness import REPOSITORY, Server

# As on CPython 3.14t. How the interpreter was built is in a module with a name that depends on these flags.
FAKE = """
import os, sys
os.environ["_PYTHON_SYSCONFIGDATA_NAME"] = (
    f"_sysconfigdata_{sys.abiflags}_{sys.platform}_{getattr(sys.implementation, '_multiarch', '')}"
)
sys.abiflags = "t"
sys._is_gil_enabled = lambda: False
"""
APPLICATION = """
def app(environ, start_response):
    start_response("200 OK", [])
    return [b"served"]
"""


def test_a_build_with_the_gil(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "abiflags", "")
    assert free_threading.warning() is None


@pytest.mark.parametrize(
    ("enabled", "state"),
    [(True, "the GIL is on, as PYTHON_GIL=1 or"), (False, "the GIL is off unless"), (None, "the GIL is off")],
)
def test_a_build_without_the_gil(enabled: bool | None, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "abiflags", "t")
    monkeypatch.delattr(sys, "_is_gil_enabled", raising=False)
    if enabled is not None:
        monkeypatch.setattr(sys, "_is_gil_enabled", lambda: enabled, raising=False)
    text = free_threading.warning()
    assert text is not None
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    assert text.startswith(f"this is a free-threaded build of Python {version}, on which the server has not been tested: {state}")


def test_the_server_says_it_once(tmp_path: Path) -> None:
    (tmp_path / "own_app.py").write_text(APPLICATION)
    (tmp_path / "sitecustomize.py").write_text(FAKE)
    env = {"PYTHONPATH": f"{tmp_path}:{REPOSITORY}"}
    with Server("own_app:app", "--workers", "2", cwd=tmp_path, env=env) as server:
        with server.client() as client:
            client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.read().body == b"served"
        assert server.log.count("this is a free-threaded build of Python") == 1
