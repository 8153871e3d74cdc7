"""starman.serving.body.streaming_exchange, in a real Service: requests with a body that the application reads as it
arrives."""

from __future__ import annotations

import contextlib
import json
import select
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest

from starman.serving.body.stream import FULL_BYTES, MOST_DROPPED
from starman.serving.connections import progress as progress_module
from tests.functional.support.harness import wait_until
from tests.functional.support.wire import Client, TruncatedError, WireError, encode_chunks, encode_request
from tests.unit.serving.applications import HELLO
from tests.unit.serving.running import SECONDS, Running, open_descriptors, reset

pytestmark = pytest.mark.usefixtures("fast")

Start = Callable[..., Any]
Environ = dict[str, Any]
Capture = pytest.CaptureFixture[str]

CHUNKED = [("Transfer-Encoding", "chunked")]
EXPECT = ("Expect", "100-continue")


@pytest.fixture
def options(options: dict[str, Any]) -> dict[str, Any]:
    return {"stream_body": True, **options}


def head(target: str, length: int | None, *fields: tuple[str, str]) -> bytes:
    """Return the head of a POST. `length` None means a chunked body."""
    framing = CHUNKED if length is None else [("Content-Length", str(length))]
    return encode_request("POST", target, [*fields, *framing])


class Stage:
    """An application that the test controls step by step: `do(function)` makes it call `function(input)`, and returns
    the result.

    The request to /hello is answered at once; every other one waits for steps until `answer`.
    """

    def __init__(self) -> None:
        self.entered: SimpleQueue[Environ] = SimpleQueue()
        self._steps: SimpleQueue[Callable[[Any], Any] | None] = SimpleQueue()
        self._results: SimpleQueue[Any] = SimpleQueue()
        self.calls: list[str] = []
        self._start_response: Start
        self._status = "200 OK"
        self._body: Iterable[bytes] = []
        self.raises = False

    def __call__(self, environ: Environ, start_response: Start) -> Iterable[bytes]:
        self.calls.append(environ["REQUEST_URI"])
        if environ["PATH_INFO"] == "/hello":
            start_response("200 OK", [])
            return [b"hello"]
        self._start_response = start_response
        self.entered.put(environ)
        while (step := self._steps.get(timeout=SECONDS)) is not None:
            try:
                self._results.put(step(environ["wsgi.input"]))
            except BaseException as error:
                self._results.put(error)
                if self.raises:
                    raise
        if self._status:
            start_response(self._status, [("Content-Type", "text/plain")])
        return self._body

    def wait(self) -> Environ:
        """Wait until the application is called, and return its environ."""
        return self.entered.get(timeout=SECONDS)

    def begin(self, function: Callable[[Any], Any]) -> None:
        """Make it call `function` with its wsgi.input."""
        self._steps.put(function)

    def result(self) -> Any:
        """Return what `function` has returned or raised."""
        return self._results.get(timeout=SECONDS)

    def do(self, function: Callable[[Any], Any]) -> Any:
        """Do both."""
        self.begin(function)
        return self.result()

    def write(self, *blocks: bytes) -> None:
        """Make it begin its response."""

        def begin_response(_input: Any) -> None:
            write = self._start_response("200 OK", [])
            for block in blocks:
                write(block)

        self._status = ""
        assert self.do(begin_response) is None

    def answer(self, *body: bytes) -> None:
        """Make it return."""
        self._body = body
        self._steps.put(None)


def echo(environ: Environ, start_response: Start) -> list[bytes]:
    """Answers with the target and the body."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [environ["REQUEST_URI"].encode(), b"|", environ["wsgi.input"].read()]


def refusing(environ: Environ, start_response: Start) -> list[bytes]:
    """Answers without reading the body."""
    start_response("200 OK" if environ["PATH_INFO"] == "/hello" else "403 Forbidden", [])
    return [b"no"]


def assert_free(running: Running) -> None:
    """The only thread serves another request."""
    with running.client() as other:
        assert other.get("/hello").status == 200


# The body as it arrives


def test_the_application_reads_what_has_come(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, **options) as running, running.client() as client:
        client.send(head("/a", 12))
        environ = stage.wait()
        assert environ["CONTENT_LENGTH"] == "12"
        assert environ["wsgi.input_terminated"] is True
        assert "starman.trailers" not in environ
        for piece in (b"one", b"two", b"six"):
            stage.begin(lambda file: file.read(3))
            client.send(piece)
            assert stage.result() == piece
        stage.begin(lambda file: (file.read(100), file.read(1), file.readline(), file.read()))
        client.send(b"end")
        assert stage.result() == (b"end", b"", b"", b"")
        stage.answer(b"done")
        response = client.read()
        assert (response.body, response.persistent) == (b"done", True)
        assert client.get("/hello").body == b"hello"


def test_chunks_and_trailers(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, **options) as running, running.client() as client:
        client.send(head("/a", None) + b"3\r\na\nb\r\n")
        environ = stage.wait()
        assert "CONTENT_LENGTH" not in environ
        assert environ["starman.trailers"] == []
        assert stage.do(lambda file: file.readline()) == b"a\n"
        stage.begin(lambda file: file.readline())
        client.send(b"2\r\nc\n\r\n")
        assert stage.result() == b"bc\n"
        stage.begin(lambda file: file.read())
        client.send(b"0\r\nDigest: \xe4\r\n\r\n")
        assert stage.result() == b""
        assert environ["starman.trailers"] == [("Digest", "\xe4")]
        stage.answer()
        assert client.read().persistent


def test_requests_of_every_kind(options: dict[str, Any]) -> None:
    with Running(echo, **options) as running, running.client() as client:
        body = b"0123456789" * 200_000
        for turn in range(3):
            assert client.get(f"/{turn}").body == b"/%d|" % turn
            assert client.request("POST", "/p", body=b"small").body == b"/p|small"
            assert client.request("POST", "/p", body=body).body == b"/p|" + body
            assert client.request("POST", "/p", body=b"").body == b"/p|"
            client.send(head("/c", None) + encode_chunks([b"x" * 70_000, b"y", b"z" * 300_000]))
            assert client.read().body == b"/c|" + b"x" * 70_000 + b"y" + b"z" * 300_000
        for byte in encode_request("POST", "/bytewise", body=b"body"):
            client.send(bytes((byte,)))
        assert client.read().body == b"/bytewise|body"
        assert client.request("POST", "/last", [("Connection", "close")], b"b").get("Connection") == "close"
        assert client.at_end()


def test_http_1_0(options: dict[str, Any]) -> None:
    with Running(echo, **options) as running, running.client() as client:
        client.send(b"POST /a HTTP/1.0\r\nContent-Length: 4\r\n\r\nbo")
        client.send(b"dy")
        assert client.read().body == b"/a|body"
        assert client.at_end()


def test_pipelined_requests_are_never_taken_for_a_body(options: dict[str, Any]) -> None:
    with Running(echo, threads=2, **options) as running, running.client() as client:
        data = b""
        for number in range(40):
            data += encode_request("POST", f"/{number}", body=HELLO * (number % 3))
            data += head(f"/c{number}", None) + encode_chunks([HELLO, b"x"]) + encode_request("GET", f"/g{number}")
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        for number in range(40):
            assert client.read().body == b"/%d|" % number + HELLO * (number % 3)
            assert client.read().body == b"/c%d|" % number + HELLO + b"x"
            assert client.read().body == b"/g%d|" % number
        sender.join(SECONDS)


def test_a_request_behind_another_one_reads_when_its_turn_has_come(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, threads=1, **options) as running, running.client() as client:
        data = encode_request("GET", "/first") + head("/second", 600_000) + b"x" * 600_000 + HELLO
        sender = threading.Thread(target=client.send, args=(data,))
        sender.start()
        stage.wait()
        stage.answer(b"first")
        assert client.read().body == b"first"
        assert stage.wait()["REQUEST_URI"] == "/second"
        assert len(stage.do(lambda file: file.read())) == 600_000
        stage.answer(b"second")
        assert [response.body for response in client.read_many(["GET", "GET"])] == [b"second", b"hello"]
        sender.join(SECONDS)


def test_others_are_served_while_a_thread_waits(options: dict[str, Any]) -> None:
    """The loop must not be parked for it, whatever the other threads do."""
    stage = Stage()
    with Running(stage, threads=2, **options) as running, running.client() as client, running.client() as other:
        client.send(head("/a", 400))
        stage.wait()
        for _ in range(200):
            stage.begin(lambda file: file.read(2))
            assert other.get("/hello").body == b"hello"
            client.send(b"ab")
            assert other.get("/hello").body == b"hello"
            assert stage.result() == b"ab"
        stage.answer()
        assert client.read().status == 200


def test_full_duplex(options: dict[str, Any]) -> None:
    """Each line is answered by a line. The connection is closed: the end of the body was not known when the response
    began."""

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        for line in environ["wsgi.input"]:
            yield line.upper()

    with Running(application, threads=1, **options) as running, running.client() as client:
        client.send(head("/a", None))
        for number in range(50):
            client.send(b"8\r\nline %02d\n\r\n" % number)
            if number == 0:
                first = client.read_head()
                assert (first.status, first.get("Connection")) == (200, "close")
            assert client._read_exactly(13) == b"8\r\nLINE %02d\n\r\n" % number
        client.send(b"0\r\n\r\n")
        assert client.read_to_end() == b"0\r\n\r\n"


def test_large_bodies_both_ways_at_once(options: dict[str, Any]) -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", environ["CONTENT_LENGTH"])])
        while block := environ["wsgi.input"].read(50_000):
            yield block

    body = bytes(range(256)) * 40_000
    with Running(application, **options) as running, running.client() as client:
        sender = threading.Thread(target=client.send, args=(encode_request("POST", "/", body=body),))
        sender.start()
        assert client.read().body == body
        sender.join(SECONDS)


def test_a_client_that_does_not_stop_is_left_unread(options: dict[str, Any]) -> None:
    """Back pressure: while the application does not read, the client can send only what the buffers take."""
    stage = Stage()
    size = 200_000_000
    with Running(stage, max_body=0, **options) as running, running.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        client.send(head("/a", size))
        stage.wait()
        client.socket.setblocking(False)
        block, sent = b"x" * 100_000, 0
        while select.select([], [client.socket], [], 0.5)[1] and sent < size:
            try:
                sent += client.socket.send(block)
            except BlockingIOError:
                continue
        assert sent < 20_000_000
        assert len(stage.do(lambda file: file.read(sent))) == sent
        assert select.select([], [client.socket], [], SECONDS)[1]
        stage.answer()
        client.socket.settimeout(SECONDS)
        assert client.read().get("Connection") == "close"


# 100 Continue


def test_100_continue_is_sent_when_the_application_reads(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, **options) as running, running.client() as client:
        client.send(head("/a", 4, EXPECT))
        stage.wait()
        assert not select.select([client.socket], [], [], 0.1)[0]
        stage.begin(lambda file: file.read())
        assert client.read_head().status == 100
        client.send(b"body")
        assert stage.result() == b"body"
        stage.answer()
        response = client.read()
        assert (response.status, response.interim, response.persistent) == (200, (), True)
        assert client.get("/hello").body == b"hello"


@pytest.mark.parametrize("length", [4, 1_000_000, None])
def test_an_application_that_does_not_read_sends_no_100_and_closes(length: int | None, options: dict[str, Any]) -> None:
    with Running(refusing, **options) as running, running.client() as client:
        client.send(head("/a", length, EXPECT))
        response = client.read()
        assert (response.status, response.interim, response.get("Connection")) == (403, (), "close")
        assert client.at_end()


def test_a_body_that_comes_without_100_needs_none(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, **options) as running, running.client() as client:
        client.send(head("/a", 8, EXPECT) + b"body")
        stage.wait()
        stage.begin(lambda file: file.read())
        client.send(b"body")
        assert stage.result() == b"bodybody"
        stage.answer()
        assert client.read().interim == ()


def test_no_100_within_a_response(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, **options) as running, running.client() as client:
        client.send(head("/a", 4, EXPECT))
        stage.wait()
        stage.write(b"begun ")
        assert client.read_head().get("Connection") == "close"
        stage.begin(lambda file: file.read())
        client.send(b"body")
        assert stage.result() == b"body"
        stage.answer(b"ended")
        assert client.read_to_end() == b"6\r\nbegun \r\n5\r\nended\r\n0\r\n\r\n"


# What the application does not read


@pytest.mark.parametrize("left", [1, 1000, MOST_DROPPED])
def test_a_small_rest_is_read_and_dropped(left: int, options: dict[str, Any]) -> None:
    """The bytes look like requests, but are not."""
    rest = (encode_request("GET", "/evil") * (left // 10 + 1))[:left]
    calls: list[str] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        calls.append(environ["REQUEST_URI"])
        return refusing(environ, start_response)

    with Running(application, **options) as running, running.client() as client:
        for _ in range(3):
            client.send(head("/a", left))
            assert client.read().persistent
            client.send(rest + HELLO)
            assert client.read().status == 200
        assert calls == ["/a", "/hello"] * 3


def test_a_rest_that_was_left_in_the_socket_is_dropped(options: dict[str, Any]) -> None:
    """The whole body has arrived, the buffer is full and the socket unread, when the application returns."""
    stage = Stage()
    body = encode_request("GET", "/evil") * 10_000
    with Running(stage, threads=1, **options) as running, running.client() as client:
        sender = threading.Thread(target=client.send, args=(head("/a", len(body)) + body + HELLO,))
        sender.start()
        stage.wait()
        stage.do(lambda file: file.read(len(body) - 1000))
        stage.answer()
        assert client.read().persistent
        assert client.read().body == b"hello"
        sender.join(SECONDS)
        assert stage.calls == ["/a", "/hello"]


def test_a_rest_is_dropped_from_a_socket_that_was_left_unread(options: dict[str, Any]) -> None:
    """No thread reads from the full buffer any more, so the end of the request must make the loop read on."""
    stage = Stage()
    more = 40_000
    with Running(stage, **options) as running, running.client() as client:
        client.send(head("/a", FULL_BYTES + 1 + more))
        stream = stage.wait()["wsgi.input"].raw._stream
        client.send(b"x" * (FULL_BYTES + 1))
        assert wait_until(lambda: stream._full)
        stage.answer()
        assert client.read().persistent
        client.send(b"x" * more + HELLO)
        assert client.read().body == b"hello"


def test_nothing_is_read_behind_the_last_request(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, **options) as running, running.client() as client:
        client.send(head("/a", 4, ("Connection", "close")) + b"body" + HELLO)
        stage.wait()
        assert stage.do(lambda file: file.read()) == b"body"
        stage.answer()
        assert client.read().status == 200
        assert client.at_end()
        assert stage.calls == ["/a"]


@pytest.mark.parametrize("length", [MOST_DROPPED + 1, 100_000_000, None])
def test_a_large_rest_ends_the_connection_but_the_response_arrives(length: int | None, options: dict[str, Any]) -> None:
    with Running(refusing, **options) as running, running.client() as client:
        client.send(head("/a", length))
        response = client.read()
        assert (response.status, response.get("Connection")) == (403, "close")
        # Lingering: bytes that the client still sends cause no reset.
        client.send(b"400\r\n" + b"x" * 1024 + b"\r\n")
        assert client.at_end()


def test_a_rest_that_does_not_come_ends_the_connection(options: dict[str, Any]) -> None:
    with Running(refusing, header_timeout=0.5, **options) as running, running.client() as client:
        client.send(head("/a", 100) + b"x")
        assert client.read().persistent
        assert client.at_end()


def test_an_error_in_a_dropped_rest_just_ends_the_connection(options: dict[str, Any], capfd: Capture) -> None:
    """The response is complete: nothing is left to be sent."""
    stage = Stage()
    with Running(stage, **options) as running, running.client() as client:
        client.send(head("/a", 100))
        stage.wait()
        stage.answer(b"done")
        assert client.read().body == b"done"
        client.socket.shutdown(socket.SHUT_WR)
        assert client.read_to_end() == b""
    assert "refused" not in capfd.readouterr().err


def test_the_application_fails_without_reading(options: dict[str, Any], capfd: Capture) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        raise ValueError("secret")

    with Running(application, **options) as running, running.client() as client:
        client.send(head("/a", 100_000_000))
        assert (client.read().status, client.at_end()) == (500, True)
    assert "ValueError: secret" in capfd.readouterr().err


def test_close_may_read_the_rest(options: dict[str, Any]) -> None:
    read: list[bytes] = []

    class Body:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __iter__(self) -> Iterator[bytes]:
            return iter([b"0123456789"])

        def close(self) -> None:
            read.append(self.file.read())

    def application(environ: Environ, start_response: Start) -> Body:
        start_response("200 OK", [("Content-Length", "10")])
        return Body(environ["wsgi.input"])

    with Running(application, **options) as running, running.client() as client:
        client.send(head("/a", 10))
        assert client.read().body == b"0123456789"
        client.send(b"the rest..")
        client.send(encode_request("POST", "/b", body=b"b"))
        assert client.read().body == b"0123456789"
        assert read[0] == b"the rest.."


def test_reading_after_the_request_raises(options: dict[str, Any]) -> None:
    kept: list[Any] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        kept.append(environ["wsgi.input"])
        return refusing(environ, start_response)

    with Running(application, **options) as running, running.client() as client:
        client.send(head("/a", 10) + b"x")
        client.read()
        client.send(b"123456789" + HELLO)
        client.read()
        with pytest.raises(OSError, match="the request is over"):
            kept[0].read()


# Bodies that fail

BREAKS: list[tuple[str, bytes, int]] = [
    ("malformed chunk", b"zz\r\n", 400),
    ("chunk longer than its size", b"1\r\nab\r\n", 400),
    ("bare line feed", b"1\na\n", 400),
    ("malformed trailer", b"0\r\nno field\r\n\r\n", 400),
    ("too long", b"%x\r\n" % 3000, 413),
    ("long extension", b"1;" + b"e" * 20_000 + b"\r\n", 400),
    ("long trailers", b"0\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
    ("negative size", b"-1\r\n", 400),
]


@pytest.mark.parametrize(("data", "status"), [(data, status) for _, data, status in BREAKS], ids=[name for name, _, _ in BREAKS])
@pytest.mark.parametrize("raises", [True, False], ids=["raised", "caught"])
def test_a_body_that_is_none_is_refused_by_the_server(
    data: bytes, status: int, raises: bool, options: dict[str, Any], capfd: Capture
) -> None:
    """The application's read raises. Whatever it answers then, the exchange answers the client, and no request
    follows."""
    stage = Stage()
    stage.raises = raises
    with Running(stage, threads=1, max_body=2000, **options) as running, running.client() as client:
        client.send(head("/a", None) + b"2\r\nab\r\n")
        stage.wait()
        stage.begin(lambda file: file.read())
        client.send(data + HELLO)
        error = stage.result()
        assert isinstance(error, OSError)
        assert "the request's body cannot be read" in str(error)
        if not raises:
            assert isinstance(stage.do(lambda file: file.read(1)), OSError)
            stage.answer(b"mine")
        response = client.read()
        assert (response.status, response.get("Connection")) == (status, "close")
        assert client.at_end()
        assert_free(running)
        assert stage.calls == ["/a", "/hello"]
    log = capfd.readouterr().err
    assert log.count(f"refused {'127.0.0.1'}: {status}") == 1
    assert "Traceback" not in log


def test_a_body_that_breaks_off_before_the_application_is_called(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, threads=1, **options) as running, running.client() as first, running.client() as client:
        first.send(encode_request("GET", "/first"))
        stage.wait()
        client.send(head("/a", None) + b"zz\r\n")
        client.socket.settimeout(0.1)
        with pytest.raises(TimeoutError):
            client.read()
        stage.answer()
        client.socket.settimeout(SECONDS)
        assert (client.read().status, client.at_end()) == (400, True)
        assert first.read().status == 200
        assert stage.calls == ["/first"]


@pytest.mark.parametrize("data", [b"zz\r\n", b"%x\r\n" % 3000])
@pytest.mark.parametrize("raises", [True, False], ids=["raised", "caught"])
def test_a_body_that_fails_during_a_response_visibly_truncates_it(data: bytes, raises: bool, options: dict[str, Any]) -> None:
    stage = Stage()
    stage.raises = raises
    with Running(stage, threads=1, max_body=2000, **options) as running, running.client() as client:
        client.send(head("/a", None))
        stage.wait()
        stage.write(b"begun")
        stage.begin(lambda file: file.read())
        client.send(data)
        assert isinstance(stage.result(), OSError)
        if not stage.raises:
            stage.answer(b"more")
        with pytest.raises((TruncatedError, ConnectionResetError)):
            client.read()
        assert_free(running)


def test_the_access_log_tells_what_was_answered(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    with Running(echo, stream_body=True, max_body=2000, access_log=str(log)) as running, running.client() as client:
        client.send(head("/too-long", None, EXPECT))
        assert client.read_head().status == 100
        client.send(b"%x\r\n" % 3000)
        assert client.read().status == 413
        with running.client() as other:
            assert other.request("POST", "/fine", body=b"x").status == 200
            other.send(head("/left", 4))
            reset(other)
        running.drain()  # `abort` would not wait for the threads that log
        running.join()
    # A thread logs after its response: another thread may have logged the next request by then.
    lines = sorted(log.read_text().splitlines(), key=lambda line: ["/too-long", "/fine", "/left"].index(line.split()[6]))
    assert '"POST /too-long HTTP/1.1" 413 33' in lines[0]
    assert '"POST /fine HTTP/1.1" 200 7' in lines[1]
    assert len(lines) == 2 or '"POST /left HTTP/1.1" 499 -' in lines[2]


def test_a_declared_length_beyond_the_limit_is_refused_before_the_application(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, max_body=2000, **options) as running, running.client() as client:
        client.send(head("/a", 2001, EXPECT))
        assert (client.read().status, client.at_end()) == (413, True)
        assert stage.calls == []


def test_the_answer_to_head_has_no_content(options: dict[str, Any]) -> None:
    with Running(echo, **options) as running, running.client() as client:
        client.send(encode_request("HEAD", "/a", CHUNKED) + b"zz\r\n")
        assert client.read("HEAD").status == 400
        assert client.read_to_end() == b""


# Clients that leave


@pytest.mark.parametrize("raises", [True, False], ids=["raised", "caught"])
@pytest.mark.parametrize("way", ["reset", "close", "half-close"])
@pytest.mark.parametrize("begun", [True, False], ids=["begun", "not begun"])
def test_a_client_that_goes_in_mid_body(way: str, raises: bool, begun: bool, options: dict[str, Any], capfd: Capture) -> None:
    """The thread that waits for the body is free at once, and nothing is logged."""
    stage = Stage()
    stage.raises = raises
    with Running(stage, threads=1, **options) as running, running.client() as client:
        client.send(head("/a", 100) + b"some")
        stage.wait()
        if begun:
            stage.write(b"begun")
        stage.begin(lambda file: file.read())
        if way == "reset":
            reset(client)
        elif way == "close":
            client.close()
        else:
            client.socket.shutdown(socket.SHUT_WR)
        assert isinstance(stage.result(), OSError)
        if not raises:
            stage.answer(b"mine")
        if way == "half-close":
            if begun:
                with pytest.raises((TruncatedError, ConnectionResetError)):
                    client.read()
            else:
                assert (client.read().status, client.at_end()) == (400, True)
        assert_free(running)
        assert capfd.readouterr().err == ""


def test_a_client_that_goes_while_its_body_lies_unread(options: dict[str, Any]) -> None:
    """Hazard 5: the loop leaves the socket unread then, so the application reads what is there, and learns it at the
    end."""
    stage = Stage()
    with Running(stage, threads=1, **options) as running, running.client() as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        client.send(head("/a", 10_000_000))
        stage.wait()
        client.socket.setblocking(False)
        while select.select([], [client.socket], [], 0.2)[1]:
            try:
                client.socket.send(b"x" * 100_000)
            except BlockingIOError:
                continue
        reset(client)
        assert isinstance(stage.do(lambda file: file.read()), OSError)
        stage.answer(b"mine")
        assert_free(running)


@pytest.mark.parametrize("use_uvloop", [True, False])
def test_a_client_that_goes_before_its_turn_is_not_run(use_uvloop: bool) -> None:
    stage = Stage()
    with Running(stage, stream_body=True, threads=1, use_uvloop=use_uvloop) as running, running.client() as first:
        first.send(encode_request("GET", "/first"))
        stage.wait()
        before = open_descriptors("socket:")
        client = running.client()
        client.send(head("/a", 100))
        # The test's end, the server's end, and a duplicate of the server's, which shows that the request is queued.
        assert wait_until(lambda: open_descriptors("socket:") == before + 3)
        reset(client)
        assert wait_until(lambda: open_descriptors("socket:") == before)
        stage.answer()
        assert first.read().status == 200
        assert first.get("/hello").status == 200
        assert stage.calls == ["/first", "/hello"]


# Slow clients


@pytest.mark.parametrize("sent", [b"", b"some"])
def test_a_body_that_does_not_come_is_a_408(sent: bytes, options: dict[str, Any]) -> None:
    stage = Stage()
    stage.raises = True
    with Running(stage, threads=1, header_timeout=0.5, **options) as running, running.client() as client:
        client.send(head("/a", 100) + sent)
        stage.wait()
        stage.begin(lambda file: file.read())
        assert "did not arrive in time" in str(stage.result())
        assert (client.read().status, client.at_end()) == (408, True)
        assert_free(running)


@pytest.mark.parametrize("raises", [True, False], ids=["raised", "caught"])
def test_a_body_that_does_not_come_within_a_response_is_a_reset(raises: bool) -> None:
    """For an HTTP/1.0 client the end of the connection would end the response. (A UNIX socket has no reset.)"""
    stage = Stage()
    stage.raises = raises
    with Running(stage, stream_body=True, threads=1, header_timeout=0.5) as running, running.client() as client:
        client.send(b"POST /a HTTP/1.0\r\nContent-Length: 100\r\n\r\n")
        stage.wait()
        stage.write(b"begun")
        stage.begin(lambda file: file.read())
        assert isinstance(stage.result(), OSError)
        if not raises:
            stage.answer()
        with pytest.raises(ConnectionResetError):
            client.read()


def drip(client: Client, piece: bytes) -> threading.Thread:
    """Send `piece` now and then, until the server closes the connection."""

    def work() -> None:
        pause = threading.Event()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                client.socket.send(piece)
                pause.wait(0.02)

    thread = threading.Thread(target=work)
    thread.start()
    return thread


@pytest.mark.parametrize("length", [1000, None])
def test_a_dripping_body_is_a_408_after_its_grace(length: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_module, "RATE_GRACE", 0.2)
    stage = Stage()
    stage.raises = True
    with Running(stage, stream_body=True, threads=1) as running, running.client() as client:
        client.send(head("/a", length))
        stage.wait()
        stage.begin(lambda file: [file.read(1) for _ in range(1000)])
        dripping = drip(client, b"x" if length else b"1\r\nx\r\n")
        assert "did not arrive in time" in str(stage.result())
        assert client.read().status == 408
        assert client.at_end()
        dripping.join(SECONDS)
        assert not dripping.is_alive()


def test_an_application_that_pauses_is_not_the_clients_fault(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, header_timeout=1, **options) as running, running.client() as client:
        client.send(head("/a", 8) + b"body")
        stage.wait()
        assert stage.do(lambda file: file.read(4)) == b"body"
        assert stage.do(lambda file: threading.Event().wait(1.5)) is False
        stage.begin(lambda file: file.read(4))
        client.send(b"more")
        assert stage.result() == b"more"
        stage.answer()
        assert client.read().persistent


# The end of the service


def test_a_drain_lets_a_body_come_to_its_end(options: dict[str, Any]) -> None:
    stage = Stage()
    with Running(stage, **options) as running, running.client() as client:
        client.send(head("/a", 4))
        stage.wait()
        stage.begin(lambda file: file.read())
        running.drain()
        client.send(b"body")
        assert stage.result() == b"body"
        stage.answer()
        assert client.read().get("Connection") == "close"
        running.join()


def test_the_end_of_grace_wakes_a_waiting_reader(options: dict[str, Any]) -> None:
    stage = Stage()
    stage.raises = True
    with Running(stage, graceful_timeout=0.2, **options) as running, running.client() as client:
        client.send(head("/a", 4))
        stage.wait()
        stage.begin(lambda file: file.read())
        running.drain()
        assert isinstance(stage.result(), OSError)
        running.join()
        with pytest.raises((ConnectionResetError, WireError)):
            client.read()


# Which requests


@pytest.mark.parametrize(
    ("path", "streamed"),
    [
        ("/upload", True),
        ("/upload/", True),
        ("/upload/x?y=z", True),
        ("/uploads", False),
        ("/upl%6Fad/x", True),
        ("//upload", False),
        ("/UPLOAD", False),
        ("/caf%C3%A9/a", True),
        ("/a/b", True),
        ("/a", False),
        ("http://h/upload", True),
        ("/?/upload", False),
    ],
)
def test_paths_choose(path: str, streamed: bool) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        return [json.dumps([environ["wsgi.input"].seekable(), environ["wsgi.input"].read().decode()]).encode()]

    with Running(application, stream_body_path=["/upload/", "/café", "/a/b"]) as running, running.client() as client:
        assert json.loads(client.request("POST", path, body=b"body").body) == [not streamed, "body"]


def test_the_root_is_every_path() -> None:
    stage = Stage()
    with Running(stage, stream_body_path="/") as running, running.client() as client:
        client.send(head("/any", 1))
        stage.wait()
        stage.answer()
        assert client.read().status == 200


def test_the_raw_socket_is_not_offered_behind_a_body_that_is_on_its_way() -> None:
    stage = Stage()
    with Running(stage, stream_body=True) as running, running.client() as client:
        client.send(head("/a", 4, ("Connection", "upgrade"), ("Upgrade", "websocket")) + b"bo")
        assert "gunicorn.socket" not in stage.wait()
        client.send(b"dy")
        assert stage.do(lambda file: file.read()) == b"body"
        stage.answer()
        assert client.read().persistent
