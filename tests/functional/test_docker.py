"""examples/deploy/Dockerfile, and the server in a root like that of its image: read-only, without a compiler, a shell
or a user's name."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from starman.config.settings import Settings
from starman.config.sources import from_arguments
from starman.version import VERSION
from tests.functional.support.harness import REPOSITORY, free_ports
from tests.functional.support.image import USER, Image
from tests.functional.support.wire import Client, encode_request
from tests.functional.test_compiled import compiled

DOCKERFILE = REPOSITORY / "examples" / "deploy" / "Dockerfile"
APPLICATION = """
import os

def app(environ, start_response):
    if environ["REQUEST_METHOD"] == "POST":
        body = str(len(environ["wsgi.input"].read()))
    else:
        body = f"{os.getuid()} {os.getgid()} {os.getgroups()} {os.getppid()} {sorted(os.listdir('/'))}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
"""
__all__ = ["compiled"]


def instructions() -> list[tuple[str, str]]:
    """The instructions of the Dockerfile: the word, and its arguments on one line."""
    text = re.sub(r"(?m)^#.*\n", "", DOCKERFILE.read_text()).replace("\\\n", " ")
    return [(word, " ".join(rest.split())) for word, _, rest in (line.partition(" ") for line in text.splitlines() if line)]


@pytest.fixture
def image(tmp_path: Path, compiled: Path) -> Image:
    made = Image(tmp_path / "root", compiled)
    (made.root / "app" / "app.py").write_text(APPLICATION)
    return made


def test_what_the_image_runs() -> None:
    found = instructions()
    stages = [number for number, (word, _) in enumerate(found) if word == "FROM"]
    assert len(stages) == 2
    build, final = found[: stages[1]], dict(found[stages[1] :])
    assert any("COMPILE_STARMAN=1" in arguments for word, arguments in build if word == "RUN")
    assert not any("apt-get" in arguments for word, arguments in found[stages[1] :] if word == "RUN")
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", final["USER"])  # as a number
    command = json.loads(final["CMD"])  # the array form
    assert command[0] == "starman-uv"
    settings = Settings(from_arguments(command[1:]).given)
    assert [str(address) for address in settings.addresses()] == [f"0.0.0.0:{final['EXPOSE']}"]
    assert settings.graceful_timeout < 10  # the grace of `docker stop`
    assert str(settings.app).partition(":")[0] in final["COPY"]


def test_every_file_that_is_copied_exists() -> None:
    for word, arguments in instructions():
        if word == "COPY":
            for name in arguments.split()[:-1]:
                assert (REPOSITORY / name).exists(), name


def test_it_serves_on_a_read_only_root(image: Image) -> None:
    (port,) = free_ports(1)
    with image.run("--workers", "2", "--access-log", "-", "app:app", PORT=str(port)) as container:
        container.wait_for(rf"starman {VERSION} ready: 2 workers")
        assert "WARNING" not in container.log
        with Client(("127.0.0.1", port)) as client:
            uid, gid, groups, parent, names = client.get("/").body.decode().split(" ", 4)
            assert (uid, gid, groups, parent) == (str(USER), str(USER), "[]", "1")
            assert "bin" not in names
            body = b"x" * 5_000_000
            client.send(encode_request("POST", "/", body=body))
            assert client.read().body == b"5000000"  # by a temporary file
        assert any("__mypyc" in Path(f"/proc/{pid}/maps").read_text() for pid in container.processes())
        assert container.stop() == 0
        assert re.search(r'"POST / HTTP/1.1" 200', container.log)
        assert f"starman {VERSION} has ended" in container.log


def test_it_starts_where_nothing_can_be_written(image: Image) -> None:
    (port,) = free_ports(1)
    with image.run("--listen", f":{port}", "--workers", "1", "app:app", writable=False) as container:
        container.wait_for(r"starman \S+ ready")
        assert "WARNING" in container.log  # bodies that do not fit into memory are refused
        with Client(("127.0.0.1", port)) as client:
            assert client.get("/").status == 200
            client.send(encode_request("POST", "/", body=b"x" * 5_000_000))
            assert client.read().status == 500
        with Client(("127.0.0.1", port)) as client:
            assert client.get("/").status == 200
        assert container.stop() == 0


def test_process_1_restarts_its_workers(image: Image) -> None:
    """For process 1, the kernel drops signals that have no handler."""
    (port,) = free_ports(1)
    with image.run("--listen", f":{port}", "--workers", "1", "app:app") as container:
        container.wait_for(r"starman \S+ ready")
        os.kill(container.pid, 1)
        container.wait_for(r"restarted: 1 worker is new")
        with Client(("127.0.0.1", port)) as client:
            assert client.get("/").status == 200
        assert container.stop() == 0
