"""`wsgi.file_wrapper` and files of another size than they report: under /sys and /proc, and files that shrink or
grow."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import Server
from tests.functional.support.wire import Client, TruncatedError

SIZE = 3_000_000


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Any:
    """/PATH?length=N: the file, with that Content-Length. ?truncate=N: it has another size once that has been looked
    at."""
    asked = {name: values[0] for name, values in parse_qs(environ["QUERY_STRING"]).items()}
    start_response("200 OK", [("Content-Length", asked["length"])] if "length" in asked else [])
    wrapper = environ["wsgi.file_wrapper"](open(environ["PATH_INFO"], "rb"))  # noqa: SIM115 - closed by the wrapper
    if "truncate" in asked:
        region = wrapper.region
        wrapper.region = lambda: (region(), os.truncate(environ["PATH_INFO"], int(asked["truncate"])))[0]
    return wrapper


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return Pair(directory, "localhost")


@pytest.fixture(scope="module", params=[2, 0], ids=["threads", "inline"])
def server(request: pytest.FixtureRequest, pair: Pair) -> Iterator[Server]:
    arguments = ("--workers", "1", "--threads", str(request.param), *pair.arguments)
    with Server("tests.functional.test_odd_files:app", *arguments, listen=["127.0.0.1:0", "127.0.0.1:0:ssl"]) as running:
        yield running


@pytest.fixture(params=["plain", "tls"])
def client(request: pytest.FixtureRequest, server: Server, pair: Pair) -> Iterator[Client]:
    made = Client(("127.0.0.1", server.port)) if request.param == "plain" else TlsClient(server.ports[1], pair)
    with made:
        yield made


@pytest.mark.skipif(not os.path.exists("/sys/kernel/mm"), reason="there is no /sys")
def test_a_file_shorter_than_its_size_is_sent(client: Client) -> None:
    path = next(path for path in sorted(Path("/sys/kernel/mm").rglob("*")) if path.is_file() and os.access(path, os.R_OK))
    content = path.read_bytes()
    assert 0 < len(content) < path.stat().st_size
    for _ in range(2):
        response = client.get(str(path))
        assert (response.body, response.get("Content-Length"), response.persistent) == (content, str(len(content)), True)


@pytest.mark.skipif(not os.path.exists("/sys/kernel/mm"), reason="there is no /sys")
def test_so_is_what_there_is_of_it_when_more_was_promised(client: Client, server: Server) -> None:
    """As Flask's `send_file` does: it takes the size for the length."""
    path = next(path for path in sorted(Path("/sys/kernel/mm").rglob("*")) if path.is_file() and os.access(path, os.R_OK))
    content = path.read_bytes()
    client.send(f"GET {path}?length=4096 HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    assert b"Content-Length: 4096" in head
    assert body == content
    server.wait_for("the application sent .* bytes fewer than its Content-Length")


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="there is no /proc")
def test_a_file_longer_than_its_size_is_sent(client: Client) -> None:
    content = Path("/proc/version").read_bytes()
    assert os.stat("/proc/version").st_size == 0
    response = client.get("/proc/version")
    assert (response.body, response.framing) == (content, "chunked")


def test_a_file_that_grows_is_sent_as_large_as_it_was(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * SIZE)
    assert client.get(f"{path}?truncate={2 * SIZE}").body == b"x" * SIZE
    assert client.get(f"{path}").body == b"x" * SIZE + bytes(SIZE)


@pytest.mark.parametrize("left", [0, 1000, 100_000, SIZE - 1])
def test_a_file_that_shrinks_is_sent_as_far_as_it_goes(client: Client, server: Server, tmp_path: Path, left: int) -> None:
    """The client sees that it is not all, by the end of the connection, and nothing of what was sent is lost."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * SIZE)
    client.send(f"GET {path}?truncate={left} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    head, _, body = client.read_to_end().partition(b"\r\n\r\n")
    assert f"Content-Length: {SIZE}".encode() in head
    assert body == b"x" * left
    server.wait_for("a file could not be sent whole: the file is shorter than it was")
    with server.client() as other:
        path.write_bytes(b"y")
        assert other.get(str(path)).body == b"y"


def test_that_is_no_whole_response(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * SIZE)
    with pytest.raises(TruncatedError):
        client.get(f"{path}?truncate=1000")
