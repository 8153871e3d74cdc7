"""`--threads 0`: the application in the loops of real workers, with frameworks, TLS, slow readers, restarts and lost
loops."""

from __future__ import annotations

import collections
import contextlib
import hashlib
import json
import os
import re
import signal
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

import starman
from starman.errors import SettingError
from starman.serving.accepting import exclusive_epoll
from tests.functional.conftest import Events
from tests.functional.support import commands
from tests.functional.support.applications import digest, pattern
from tests.functional.support.certificates import Pair, TlsClient
from tests.functional.support.harness import REPOSITORY, Server, wait_until
from tests.functional.support.load import Load
from tests.functional.support.vitals import descriptors
from tests.functional.support.wire import Client, TruncatedError, encode_request, refuses

APPLICATION = "tests.functional.support.applications:app"
EXAMPLES = [REPOSITORY / "examples", REPOSITORY / "examples" / "django_site"]
SIZE = 8_000_000
STREAM = f"/stream/{SIZE}?step=50000"
# Less than a packet on loopback would be read by the kernel's timers.
RECEIVE_BYTES = 65_536


@pytest.fixture(scope="module")
def pair(directory: Path) -> Pair:
    return Pair(directory, "localhost")


@pytest.fixture(scope="module")
def server(server_env: dict[str, str], pair: Pair, directory: Path) -> Iterator[Server]:
    """One worker without threads, plain and with TLS, with spool files in a directory of their own."""
    (directory / "spools").mkdir()
    env = server_env | {
        "PYTHONPATH": os.pathsep.join(map(str, [REPOSITORY, *EXAMPLES])),
        "DJANGO_SETTINGS_MODULE": "django_site.settings",
        "NOTES_DATABASE": ":memory:",
        "TMPDIR": str(directory / "spools"),
    }
    arguments = ("--workers", "1", "--threads", "0", *pair.arguments)
    listen = ["127.0.0.1:0", "127.0.0.1:0:ssl"]
    with Server("tests.functional.support.inlined:app", *arguments, listen=listen, env=env, warnings="default") as running:
        yield running
    assert "ERROR" not in running.log, running.log


@pytest.fixture(scope="module")
def worker(server: Server) -> int:
    (pid,) = server.worker_pids()
    return pid


@pytest.fixture
def session() -> Iterator[requests.Session]:
    with requests.Session() as opened:
        opened.trust_env = False
        yield opened


@pytest.fixture(params=["plain", "tls"])
def slow(request: pytest.FixtureRequest, server: Server, pair: Pair) -> Iterator[Client]:
    """A client of `server` that holds little of what it has not read."""
    with open_slow(server, pair if request.param == "tls" else None) as client:
        yield client


def open_slow(server: Server, pair: Pair | None = None) -> Client:
    if pair is not None:
        return TlsClient(server.ports[1], pair, receive_bytes=RECEIVE_BYTES)
    client = server.client()
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BYTES)
    return client


def begin(client: Client, target: str) -> None:
    """Ask, and read the head of the answer only."""
    client.send(encode_request("GET", target))
    assert client.read_head().status == 200


def rest_of(client: Client) -> bytes:
    """What `begin` has left, in chunks. The connection may then be used again."""
    body = client._read_chunks()
    client._within_response = False
    return body


def answers(server: Server) -> None:
    """Others are served meanwhile."""
    for _ in range(5):
        with server.client() as other:
            assert other.get("/hello").body == b"hello\n"


# Frameworks


def test_flask(server: Server, session: requests.Session) -> None:
    url = f"{server.url}/flask"
    assert "<h1>Hello, Tove &amp; Mia</h1>" in session.post(f"{url}/form", {"name": "Tove & Mia"}).text
    body = pattern(300_000)
    assert session.post(f"{url}/upload", data=body).json() == {"length": len(body), "md5": hashlib.md5(body).hexdigest()}
    with session.get(f"{url}/stream?lines=20000", stream=True) as response:
        answers(server)
        assert list(response.iter_lines(decode_unicode=True)) == [f"line {number}" for number in range(20_000)]


def test_streams_of_flask_keep_the_context_of_their_request(server: Server) -> None:
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(server.client()) for _ in range(4)]
        for number, client in enumerate(clients):
            client.send(encode_request("GET", f"/flask/context/20000?line={number}"))
        for number, client in enumerate(clients):
            assert client.read().body == b"%d\n" % number * 20_000


def test_django(server: Server, session: requests.Session) -> None:
    url = f"{server.url}/django/"
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', session.get(url).text)
    assert found is not None
    notes = [f"note {number}" for number in range(20)]
    for note in notes:
        added = session.post(f"{url}add", {"csrfmiddlewaretoken": found[1], "text": note})
        assert (added.status_code, note in added.text) == (200, True)
    with session.get(f"{url}export", stream=True) as response:
        assert response.headers["Transfer-Encoding"] == "chunked"
        assert sorted(response.text.splitlines()) == sorted(notes)


# What the application is told, and where it runs


def test_the_application_is_told_that_it_is_alone_and_offered_no_connection(server: Server) -> None:
    with server.client() as client:
        response = client.get("/environ", ("Connection", "Upgrade"), ("Upgrade", "websocket"))
        environ = json.loads(response.body)
        assert environ["wsgi.multithread"] is False
        assert "gunicorn.socket" not in environ
        assert environ["HTTP_UPGRADE"] == "websocket"
        assert client.get("/hello").body == b"hello\n"


def test_no_threads_are_started(server_env: dict[str, str]) -> None:
    with inline(server_env) as server:
        assert server.threads == 0
        (worker,) = server.worker_pids()
        with server.client() as client:
            assert client.get(STREAM).body == pattern(SIZE)
            assert client.request("POST", "/digest", body=b"x" * 1000).body == digest(b"x" * 1000)
        names = [Path(f"/proc/{worker}/task/{task}/comm").read_text() for task in os.listdir(f"/proc/{worker}/task")]
        # The loop's, and the one that waits for connections (Linux).
        assert len(names) == 1 + exclusive_epoll.available, names


def test_it_runs_in_the_main_thread(server: Server) -> None:
    with server.client() as client:
        names, in_main_thread = json.loads(client.get("/threads").body)
    assert in_main_thread
    assert not [name for name in names if re.fullmatch(r"starman-\d+", name)]


# Responses


def test_heads_are_answered_and_their_iterables_closed(server: Server, events: Events, slow: Client) -> None:
    before = events.count("close head")
    for target in ("/size/300000", "/endless?name=head", "/file", "/stream/100"):
        response = slow.request("HEAD", target)
        assert (response.status, response.body) == (200, b"")
    assert events.count("close head") == before + 1
    assert slow.get("/hello").body == b"hello\n"


def test_a_slow_reader_gets_its_stream_and_holds_up_no_other(server: Server, worker: int, directory: Path, slow: Client) -> None:
    begin(slow, STREAM)
    answers(server)
    assert str(directory / "spools") not in " ".join(descriptors(worker))
    # Behind it on the same connection, so after it.
    slow.send(encode_request("GET", "/hello"))
    assert rest_of(slow) == pattern(SIZE)
    assert slow.read().body == b"hello\n"


def test_a_slow_reader_gets_its_file(server: Server, events: Events, slow: Client) -> None:
    before = events.count("close file")
    slow.send(encode_request("GET", "/file") * 3)
    answers(server)
    for _ in range(3):
        assert slow.read().body == pattern(300_000)
    assert wait_until(lambda: events.count("close file") == before + 3)


def test_an_http_1_0_client_gets_its_stream_up_to_the_end_of_the_connection(server: Server) -> None:
    with server.client() as client:
        client.send(f"GET {STREAM} HTTP/1.0\r\n\r\n".encode())
        answers(server)
        response = client.read()
        assert (response.framing, response.body) == ("close", pattern(SIZE))


def test_a_stream_without_a_break_keeps_neither_clients_nor_new_ones_away(server: Server, tmp_path: Path) -> None:
    end = tmp_path / "end"
    with server.client() as spinning, server.client() as kept:
        spinning.send(encode_request("GET", f"/spin?{end}"))
        for _ in range(5):
            assert kept.get("/hello").body == b"hello\n"
            answers(server)
        end.touch()
        assert spinning.read().body == b"ended"


# Ends


@contextlib.contextmanager
def inline(env: dict[str, str], *arguments: str, workers: int = 1, application: str = APPLICATION) -> Iterator[Server]:
    with Server(application, "--workers", str(workers), "--threads", "0", *arguments, env=env) as server:
        yield server


def test_a_client_that_reads_nothing_is_cut_and_the_iterable_closed(server_env: dict[str, str], events: Events) -> None:
    with inline(server_env, "--write-timeout", "1") as server, open_slow(server) as client:
        begin(client, "/endless?name=cut")
        events.wait_for("close cut")
        with pytest.raises((TruncatedError, ConnectionResetError)):
            rest_of(client)
        answers(server)
    assert "ERROR" not in server.log


def test_a_client_that_leaves_in_mid_stream_ends_it(server: Server, events: Events, slow: Client) -> None:
    before = events.count("close left")
    begin(slow, "/endless?name=left")
    slow.close()
    assert wait_until(lambda: events.count("close left") == before + 1)


def test_recycling_loses_nothing(server_env: dict[str, str]) -> None:
    with inline(server_env, "--max-requests", "150", "--max-requests-jitter", "50", workers=2) as server:
        with Load(server.client, "/pid") as load, Load(server.client, "/stream/300000", kept=2, fresh=1) as streams:
            server.wait_for(r"is replaced: it has served \d+ requests \(max_requests\)", timeout=60, count=5)
        assert load.failures == streams.failures == []
        assert len(load.answers) >= 4
        assert set(streams.answers) == {pattern(300_000)}
    assert "ERROR" not in server.log
    assert "WARNING" not in server.log


def test_restart_and_stop_finish_what_is_streamed(server_env: dict[str, str]) -> None:
    with inline(server_env, workers=2) as server, open_slow(server) as first, open_slow(server) as second:
        before = server.worker_pids()
        begin(first, STREAM)
        server.signal(signal.SIGHUP)
        assert wait_until(lambda: len(set(server.worker_pids()) - set(before)) == 2)
        begin(second, STREAM)
        server.signal(signal.SIGQUIT)
        assert wait_until(lambda: refuses(server.port))
        with ThreadPoolExecutor(2) as pool:
            assert list(pool.map(rest_of, [first, second])) == [pattern(SIZE)] * 2
        assert server.wait() == 0
    assert "are reset" not in server.log


def test_a_drain_that_takes_too_long_closes_the_iterable(server_env: dict[str, str], events: Events) -> None:
    with inline(server_env, "--graceful-timeout", "1") as server, open_slow(server) as client:
        begin(client, "/endless?name=drained")
        server.signal(signal.SIGQUIT)
        assert server.wait() == 0
        assert events.count("close drained") == 1
    assert re.search(
        r"graceful_timeout is over \(1 s\): 1 connection is reset while serving GET /endless\?name=drained ", server.log
    )


MORE = """
import time
from tests.functional.support.applications import FUNCTIONS, app, pattern

def hold_the_loop():
    time.sleep(600)

def hold(environ, start_response):
    hold_the_loop()

def harakiri(environ, start_response):
    start_response("200 OK", [])
    for _ in range(100):
        yield pattern(65_536)
    environ["starman.harakiri"] = True

FUNCTIONS.update(hold=hold, harakiri=harakiri)
"""


def test_a_lost_loop_and_the_wish_to_end_behind_a_stream(server_env: dict[str, str], tmp_path: Path, events: Events) -> None:
    (tmp_path / "more.py").write_text(MORE)
    with inline(server_env, "--worker-timeout", "1.5", "-I", str(tmp_path), application="more:app") as server:
        (first,) = server.worker_pids()
        with open_slow(server) as client:
            begin(client, "/harakiri")
            assert rest_of(client) == pattern(65_536) * 100
        server.wait_for(rf"worker 1 \({first}\) is replaced: its application has asked for it \(starman\.harakiri\)")
        assert wait_until(lambda: first not in (pids := server.worker_pids()) and len(pids) == 1)
        (second,) = server.worker_pids()
        with open_slow(server) as streamed, server.client() as client:
            begin(streamed, "/endless?name=lost")
            client.send(encode_request("POST", "/hold?this", body=b"x"))
            said = server.wait_for(rf"worker 1 \({second}\) is replaced: its loop has been silent for .*", timeout=20)[0]
            assert re.search(r"\(worker_timeout\) while serving POST /hold\?this \(for \S+ s\); its stacks follow$", said), said
            server.wait_for(r'File ".*more\.py", line \d+ in hold_the_loop')
            server.wait_for(rf"worker 1 \({second}\) is still silent: it is killed while serving ")
        answers(server)


def test_connections_are_spread_evenly(server_env: dict[str, str]) -> None:
    with inline(server_env, workers=2) as server, contextlib.ExitStack() as stack:
        counts: collections.Counter[bytes] = collections.Counter()
        for _ in range(32):
            client = stack.enter_context(server.client())
            counts[client.get("/pid").body] += 1
    assert len(counts) == 2
    assert all(12 <= count <= 20 for count in counts.values()), counts


# Settings


@pytest.mark.parametrize(
    ("arguments", "env", "names"),
    [
        (["--threads", "0", "--stream-body"], {}, ["--threads", "--stream-body"]),
        ([], {"STARMAN_THREADS": "0", "STARMAN_STREAM_BODY": "1"}, ["STARMAN_THREADS", "STARMAN_STREAM_BODY"]),
        (["--threads", "0", "--stream-body-path", "/up"], {}, ["--threads", "--stream-body-path"]),
    ],
    ids=["options", "variables", "path"],
)
def test_a_body_is_not_streamed_to_the_loop(arguments: list[str], env: dict[str, str], names: list[str]) -> None:
    done = commands.starman(*arguments, APPLICATION, env=env)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1, done.stderr
    assert [name for name in names if name in done.stderr] == names


def test_nor_by_run() -> None:
    with pytest.raises(SettingError, match=r"threads.*stream_body"):
        starman.run(APPLICATION, threads=0, stream_body=True)
