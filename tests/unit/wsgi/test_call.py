"""starman.wsgi.call: every rule of PEP 3333 about the response, with a fake Output."""

from __future__ import annotations

import errno
import gc
import os
import sys
import traceback
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from starman.errors import Disconnected
from starman.wsgi.call import Call
from starman.wsgi.environ import Environ, build, for_connection, template
from starman.wsgi.filewrapper import FileWrapper
from tests.unit.wsgi.fakes import Blocks, FakeOutput, answering, new_call, respond
from tests.unit.wsgi.heads import request

Start = Callable[..., Callable[[bytes], None]]
Capture = pytest.CaptureFixture[str]

LENGTH_5 = [("Content-Length", "5")]
INTERNAL_ERROR = b"Internal Server Error\n"


def assert_500(call: Call, output: FakeOutput) -> None:
    assert (call.status_code, output.status, output.body) == (500, 500, INTERNAL_ERROR)
    assert output.field(b"Connection") == b"close"
    assert not call.persistent
    assert output.ended
    assert call.body_sent == len(INTERNAL_ERROR)


# The framing of whole and of streamed bodies


@pytest.mark.parametrize("body", [[b"hello"], (b"hello",), [b"he", b"", b"llo"], (b"he", b"llo")])
def test_a_list_or_tuple_is_one_send_with_its_length(body: Any) -> None:
    call, output = respond(answering(body))
    assert len(output.sent) == 1
    assert output.ended
    assert output.field(b"Content-Length") == b"5"
    assert output.field(b"Transfer-Encoding") is None
    assert output.body == b"hello"
    assert (call.persistent, call.broken, call.status_code, call.body_sent) == (True, False, 200, 5)


@pytest.mark.parametrize("body", [[], (), [b""], [b"", b""], Blocks(), Blocks(b"", b""), iter(())])
def test_an_empty_body_has_length_0(body: Any) -> None:
    call, output = respond(answering(body))
    assert output.field(b"Content-Length") == b"0"
    assert output.body == b""
    assert output.ended
    assert call.persistent


def test_a_stream_is_chunked_block_by_block() -> None:
    body = Blocks(b"ab", b"", b"cde")
    call, output = respond(answering(body))
    assert output.field(b"Transfer-Encoding") == b"chunked"
    assert output.field(b"Content-Length") is None
    assert output.sent[0].endswith(b"\r\n\r\n2\r\nab\r\n")
    assert output.sent[1:] == [b"3\r\ncde\r\n", b"0\r\n\r\n"]
    assert (call.persistent, call.body_sent, body.closed) == (True, 5, 1)


def test_a_stream_to_a_1_0_client_ends_with_the_connection() -> None:
    call, output = respond(answering(Blocks(b"ab", b"cde")), minor=0)
    assert output.field(b"Transfer-Encoding") is None
    assert output.field(b"Connection") == b"close"
    assert output.body == b"abcde"
    assert (call.persistent, call.broken) == (False, False)


def test_a_stream_of_known_length_frees_the_thread_at_its_last_byte() -> None:
    """`last` on the block that completes the length: a client that reads it slowly does not hold the thread."""
    output = FakeOutput()
    ended: list[bool] = []

    def body() -> Iterator[bytes]:
        yield b"ab"
        ended.append(output.ended)
        yield b"cde"
        ended.append(output.ended)

    call, _ = respond(answering(body(), headers=LENGTH_5), output)
    assert ended == [False, True]
    assert output.body == b"abcde"
    assert call.persistent


def test_a_bytes_subclass_and_many_empty_blocks() -> None:
    class Markup(bytes):
        pass

    _, output = respond(answering(Blocks(*[b""] * 100, Markup(b"x"))))
    assert output.body == b"1\r\nx\r\n0\r\n\r\n"


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@pytest.mark.parametrize("body", [[b"body"], [], Blocks(b"body"), Blocks(b"body", RuntimeError("never asked"))])
def test_statuses_without_a_body_send_none(status: str, body: Any) -> None:
    call, output = respond(answering(body, status))
    assert output.body == b""
    assert output.ended
    assert output.field(b"Transfer-Encoding") is None
    assert (call.persistent, call.body_sent) == (True, 0)


@pytest.mark.parametrize("make", [lambda: [b"hello"], lambda: Blocks(b"hello", b"more"), lambda: iter([b"hello"]), Blocks])
def test_head_has_no_body(make: Callable[[], Any]) -> None:
    body = make()
    call, output = respond(answering(body, headers=LENGTH_5), head=True)
    assert output.body == b""
    assert output.field(b"Content-Length") == b"5"
    assert (call.persistent, call.body_sent, call.status_code) == (True, 0, 200)
    if isinstance(body, Blocks):
        assert body.closed == 1
        assert body.taken <= 1


def test_the_connection_ends_if_the_output_or_the_application_says_so() -> None:
    call, output = respond(answering([b"x"]), FakeOutput(persistent=False))
    assert not call.persistent
    assert output.field(b"Connection") == b"close"
    call, output = respond(answering([b"x"], headers=[("Connection", "close")]))
    assert not call.persistent
    assert output.field(b"Connection") == b"close"


# When the head leaves


def test_the_head_waits_for_the_first_block_that_is_not_empty() -> None:
    output = FakeOutput()
    seen: list[int] = []

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        write = start_response("200 OK", [])
        seen.append(len(output.sent))
        write(b"")
        yield b""
        seen.append(len(output.sent))
        yield b"x"
        seen.append(len(output.sent))

    respond(application, output)
    assert seen == [0, 0, 1]
    assert output.times_asked == 1


def test_a_generator_may_start_the_response_late() -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        yield b""
        start_response("201 Created", [])
        yield b"made"

    call, output = respond(application)
    assert (call.status_code, output.status) == (201, 201)


def test_each_block_is_sent_before_the_next_is_asked_for() -> None:
    output = FakeOutput()
    sent: list[int] = []

    def body() -> Iterator[bytes]:
        for _ in range(4):
            yield b"x"
            sent.append(len(output.sent))

    respond(answering(body()), output)
    assert sent == [1, 2, 3, 4]


# start_response


def test_a_second_start_response_without_exc_info_fails(capfd: Capture) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        start_response("201 Created", [])
        return [b"x"]

    assert_500(*respond(application))
    assert "start_response was called twice" in capfd.readouterr().err


def test_exc_info_replaces_the_head_before_it_is_sent() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [("X-First", "1"), ("Content-Length", "1")])
        try:
            raise ValueError("caught")
        except ValueError:
            start_response("503 Service Unavailable", [("X-Second", "2")], sys.exc_info())
        return [b"sorry"]

    call, output = respond(application)
    assert (call.status_code, output.status) == (503, 503)
    assert output.field(b"X-First") is None
    assert output.field(b"X-Second") == b"2"
    assert output.field(b"Content-Length") == b"5"
    assert call.persistent


def test_exc_info_as_the_first_call() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        try:
            raise ValueError("caught")
        except ValueError:
            start_response("500 Internal Server Error", [], sys.exc_info())
        return [b"mine"]

    call, output = respond(application)
    assert output.body == b"mine"
    assert call.status_code == 500


def test_exc_info_re_raises_after_the_head_was_sent(capfd: Capture) -> None:
    caught: list[BaseException] = []

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        try:
            raise ValueError("too late")
        except ValueError:
            try:
                start_response("500 Internal Server Error", [], sys.exc_info())
            except ValueError as error:
                caught.append(error)
                raise
        yield b"never"

    call, output = respond(application)
    assert len(caught) == 1
    assert any(frame.name == "application" for frame in traceback.extract_tb(caught[0].__traceback__))
    assert output.body == b"5\r\nbegun\r\n"  # and no last chunk: the client sees the break
    assert not call.persistent
    assert "ValueError: too late" in capfd.readouterr().err


def test_empty_exc_info_cannot_start_a_second_head() -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        start_response("200 OK", [], sys.exc_info())
        yield b"more"

    call, output = respond(application)
    assert output.data.count(b"HTTP/1.1") == 1
    assert output.body == b"5\r\nbegun\r\n"
    assert not call.persistent


def test_exc_info_makes_no_reference_cycle() -> None:
    class Thing:
        pass

    found: list[weakref.ref[Thing]] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        thing = Thing()
        found.append(weakref.ref(thing))
        try:
            raise ValueError("caught")
        except ValueError:
            start_response("503 Service Unavailable", [], sys.exc_info())
        return [b"x"]

    gc.disable()
    try:
        respond(application)
        assert found[0]() is None
    finally:
        gc.enable()


@pytest.mark.parametrize(
    ("status", "headers"),
    [
        ("200", [("A", "b\r\nSet-Cookie: x=1")]),
        ("200 OK\r\nA: b", []),
        ("200 OK", [("A\r\nB", "c")]),
        ("200 OK", [("A", "b\0")]),
        ("200 OK", [("A", "b\nc")]),
        ("200 OK", [("A", "\u20ac")]),
        ("200 OK", [("A b", "c")]),
        ("200 OK", [("", "c")]),
        ("200 OK", [("Content-Length", "1"), ("content-length", "1")]),
        ("200 OK", [("Content-Length", "-1")]),
        ("200 OK", [("Content-Length", "x")]),
        ("200 OK", [("A", 1)]),
        ("200 OK", [("A", b"b")]),
        ("200 OK", [(b"A", "b")]),
        ("200 OK", [("A",)]),
        ("200 OK", None),
        ("OK", []),
        ("", []),
        ("100 Continue", []),
        ("1000 Many", []),
        (b"200 OK", []),
        (200, []),
        (None, []),
    ],
)
def test_a_malformed_head_is_a_500_and_leaks_nothing(status: Any, headers: Any) -> None:
    seen: list[str] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        try:
            start_response(status, headers)
        except Exception as error:
            seen.append(type(error).__name__)
            raise
        return [b"secret"]

    call, output = respond(application)
    assert_500(call, output)
    assert seen in (["ValueError"], ["TypeError"])  # where it was called, so the traceback leads there
    assert b"secret" not in output.data


def test_status_alone_and_odd_reasons() -> None:
    assert respond(answering([b""], "200"))[1].data.startswith(b"HTTP/1.1 200 \r\n")
    assert respond(answering([b""], "299 Tr\xe8s bien"))[1].data.startswith(b"HTTP/1.1 299 Tr\xe8s bien\r\n")


def test_fields_keep_their_order_and_spelling() -> None:
    fields = [("Set-Cookie", "a=1"), ("x-B", "\xe9"), ("Set-Cookie", "b=2")]
    _, output = respond(answering([b""], headers=fields))
    assert output.data.startswith(b"HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nx-B: \xe9\r\nSet-Cookie: b=2\r\n")


def test_the_applications_date_and_server_win_and_hop_by_hop_fields_do_not() -> None:
    fields = [("date", "then"), ("Server", "mine"), ("Transfer-Encoding", "chunked"), ("Keep-Alive", "9"), ("Upgrade", "x")]
    _, output = respond(answering([b"x"], headers=fields))
    assert output.field(b"date") == b"then"
    assert output.field(b"Date") is None
    assert output.field(b"Server") == b"mine"
    assert output.field(b"Transfer-Encoding") is None
    assert output.field(b"Keep-Alive") is None
    assert output.field(b"Upgrade") is None
    assert output.body == b"x"


# write()


def test_write_sends_at_once_and_the_iterable_follows() -> None:
    output = FakeOutput()
    bodies: list[bytes] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"one")
        bodies.append(output.body)
        write(b"")
        write(b"two")
        return [b"three"]

    call, _ = respond(application, output)
    assert bodies == [b"3\r\none\r\n"]
    assert output.body == b"3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"
    assert (call.persistent, call.body_sent) == (True, 11)


def test_write_with_a_length() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        write = start_response("200 OK", LENGTH_5)
        write(b"he")
        write(b"llo")
        return []

    call, output = respond(application)
    assert (output.body, output.ended, call.persistent) == (b"hello", True, True)


@pytest.mark.parametrize("data", ["str", bytearray(b"x"), memoryview(b"x"), None, 1])
def test_write_takes_bytes_only(data: Any) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", [])(data)
        return []

    assert_500(*respond(application))


def test_write_after_the_end_fails_and_sends_nothing() -> None:
    kept: list[Callable[[bytes], None]] = []

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        kept.append(start_response("200 OK", []))
        return [b"x"]

    _, output = respond(application)
    sent = output.data
    with pytest.raises(AssertionError, match="the response has ended"):
        kept[0](b"more")
    assert output.data == sent


def test_write_in_close_fails_and_spoils_nothing(capfd: Capture) -> None:
    class Writes(Blocks):
        write: Callable[[bytes], None]

        def close(self) -> None:
            super().close()
            self.write(b"more")

    body = Writes(b"x")

    def application(environ: Environ, start_response: Start) -> Writes:
        body.write = start_response("200 OK", [])
        return body

    call, output = respond(application)
    assert output.body == b"1\r\nx\r\n0\r\n\r\n"
    assert call.persistent
    assert "close() of the response failed" in capfd.readouterr().err


# Content-Length against the body


@pytest.mark.parametrize("body", [[b"hello world"], [b"hello", b" world"], Blocks(b"hello world"), Blocks(b"hello", b" world")])
def test_never_more_than_content_length(body: Any, capfd: Capture) -> None:
    call, output = respond(answering(body, headers=LENGTH_5))
    assert output.body == b"hello"
    assert (call.persistent, call.body_sent) == (True, 5)
    assert capfd.readouterr().err.count("more bytes than its Content-Length") == 1


def test_the_excess_ends_the_iteration_and_closes_once() -> None:
    body = Blocks(b"hel", b"lo w", b"orld", RuntimeError("never asked"))
    call, output = respond(answering(body, headers=LENGTH_5))
    assert (output.body, body.taken, body.closed) == (b"hello", 2, 1)
    assert call.persistent


def test_the_excess_of_write_is_dropped_and_logged_once(capfd: Capture) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        write = start_response("200 OK", LENGTH_5)
        for _ in range(4):
            write(b"abc")
        return [b"def"]

    _, output = respond(application)
    assert output.body == b"abcab"
    assert capfd.readouterr().err.count("more bytes than its Content-Length") == 1


@pytest.mark.parametrize("body", [[b"hell"], [], [b"h", b"ell"], Blocks(b"hell"), Blocks(), iter([b"h"])])
def test_a_body_shorter_than_content_length_ends_the_connection(body: Any, capfd: Capture) -> None:
    call, output = respond(answering(body, headers=LENGTH_5))
    assert output.field(b"Content-Length") == b"5"
    assert len(output.body) < 5
    assert not call.persistent
    assert not call.broken  # the end of the connection shows it
    assert "fewer than its Content-Length, so the connection is closed: GET /" in capfd.readouterr().err


# What is no body


@pytest.mark.parametrize(
    "body", ["text", b"bytes", bytearray(b"x"), None, 7, ["text"], [b"x", "text"], [None], [1], [bytearray(b"x")]]
)
def test_what_is_no_iterable_of_bytes_is_a_500(body: Any) -> None:
    assert_500(*respond(answering(body)))


def test_what_is_wrong_is_said_in_the_log(capfd: Capture) -> None:
    for body, words in (
        (None, "None"),
        (b"x", "bytes itself"),
        ("x", "str itself"),
        (["x"], "str"),
    ):
        respond(answering(body))
        assert f"not {words}" in capfd.readouterr().err


def test_str_blocks_after_the_head_break_the_response() -> None:
    body = Blocks(b"begun", "text")
    call, output = respond(answering(body))
    assert output.body == b"5\r\nbegun\r\n"
    assert (call.persistent, body.closed) == (False, 1)


@pytest.mark.parametrize("body", [[b"x"], [], Blocks(b"x"), Blocks(), [b""], Blocks(b"")])
def test_no_start_response_is_a_500(body: Any, capfd: Capture) -> None:
    assert_500(*respond(lambda environ, start_response: body))
    assert "start_response" in capfd.readouterr().err


def test_no_start_response_but_a_start_in_the_iteration() -> None:
    class Late(Blocks):
        def __iter__(self) -> Iterator[bytes]:
            self.start("200 OK", [])
            return super().__iter__()

        start: Start

    body = Late(b"x")

    def application(environ: Environ, start_response: Start) -> Late:
        body.start = start_response
        return body

    assert respond(application)[1].body == b"1\r\nx\r\n0\r\n\r\n"


# Errors of the application

ERRORS = [
    RuntimeError("secret"),
    SystemExit("secret"),
    KeyboardInterrupt(),
    GeneratorExit(),
    StopIteration("secret"),
    MemoryError(),
]


@pytest.mark.parametrize("error", ERRORS, ids=repr)
@pytest.mark.parametrize("started", [False, True])
def test_an_error_of_the_application_is_a_500(error: BaseException, started: bool, capfd: Capture) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        if started:
            start_response("200 OK", [("X-Secret", "secret")])
        raise error

    call, output = respond(application)
    assert_500(call, output)
    assert b"secret" not in output.data
    assert not call.broken
    assert "the application failed: GET /path" in capfd.readouterr().err


@pytest.mark.parametrize("error", [RuntimeError("secret"), SystemExit(3)], ids=repr)
def test_an_error_before_the_first_block_is_a_500(error: BaseException) -> None:
    body = Blocks(b"", error)
    assert_500(*respond(answering(body)))
    assert body.closed == 1


def test_a_500_to_head_has_no_body() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        raise RuntimeError

    call, output = respond(application, head=True)
    assert (output.status, output.body, call.body_sent) == (500, b"", 0)


@pytest.mark.parametrize("error", [RuntimeError("secret"), SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(
    ("minor", "headers", "body", "broken"),
    [
        (1, [], b"5\r\nbegun\r\n", False),  # no last chunk
        (1, [("Content-Length", "9")], b"begun", False),  # too few bytes
        (0, [("Content-Length", "9")], b"begun", False),
        (0, [], b"begun", True),  # an orderly end would look like the end of the body
    ],
)
def test_an_error_in_mid_body_is_visible(
    error: BaseException, minor: int, headers: list[tuple[str, str]], body: bytes, broken: bool
) -> None:
    blocks = Blocks(b"begun", error, b"never")
    call, output = respond(answering(blocks, headers=headers), minor=minor)
    assert output.body == body
    assert not output.ended
    assert (call.persistent, call.broken, call.status_code, call.body_sent) == (False, broken, 200, 5)
    assert blocks.closed == 1


def test_an_error_behind_a_complete_body_cuts_nothing() -> None:
    blocks = Blocks(b"hello", RuntimeError("late"))
    call, output = respond(answering(blocks, headers=LENGTH_5), minor=0)
    assert (output.body, output.ended, call.broken, blocks.closed) == (b"hello", True, False, 1)


def test_the_log_has_the_applications_frames_and_none_of_ours(capfd: Capture) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        try:
            raise KeyError("the cause")
        except KeyError as error:
            raise RuntimeError("the failure") from error

    respond(application)
    text = capfd.readouterr().err
    assert "KeyError: 'the cause'" in text
    assert "RuntimeError: the failure" in text
    assert "in application" in text
    assert "wsgi/call.py" not in text


def test_the_log_of_a_failing_close_has_none_of_our_frames_either(capfd: Capture) -> None:
    body = Blocks(RuntimeError("first"), on_close=ValueError("second"))
    call, output = respond(answering(body))
    assert_500(call, output)
    text = capfd.readouterr().err
    assert text.index("RuntimeError: first") < text.index("ValueError: second")
    assert "wsgi/call.py" not in text


def test_an_exception_chain_with_a_cycle_ends(capfd: Capture) -> None:
    first, second = RuntimeError("first"), RuntimeError("second")
    first.__context__, second.__context__ = second, first

    def application(environ: Environ, start_response: Start) -> list[bytes]:
        raise first

    assert_500(*respond(application))
    assert "RuntimeError: first" in capfd.readouterr().err


def test_a_log_without_an_environ(capfd: Capture) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        environ.clear()
        raise RuntimeError("boom")

    assert_500(*respond(application))
    assert "the application failed: ? ?" in capfd.readouterr().err


# close()


@pytest.mark.parametrize("head", [False, True])
@pytest.mark.parametrize("blocks", [(), (b"x",), (b"x", b"y"), (RuntimeError(),), (b"x", RuntimeError()), ("text",)])
@pytest.mark.parametrize("sends", [None, 0, 1, 2])
@pytest.mark.parametrize("headers", [[], [("Content-Length", "1")], [("Content-Length", "9")]])
def test_close_is_called_once_on_every_way(
    head: bool, blocks: tuple[Any, ...], sends: int | None, headers: list[tuple[str, str]]
) -> None:
    body = Blocks(*blocks)
    call, output = respond(answering(body, headers=headers), FakeOutput(sends=sends), head=head)
    assert body.closed == 1
    assert output.sent or not call.persistent


def test_close_of_a_generator_runs_its_finally() -> None:
    ends: list[str] = []

    def body() -> Iterator[bytes]:
        try:
            while True:
                yield b"x"
        finally:
            ends.append("closed")

    call, _ = respond(answering(body()), FakeOutput(sends=3))
    assert ends == ["closed"]
    assert not call.persistent


def test_close_of_a_list_subclass() -> None:
    class Closing(list[bytes]):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    body = Closing([b"x"])
    respond(answering(body))
    assert body.closed == 1


def test_close_comes_behind_the_last_byte() -> None:
    output = FakeOutput()
    sent: list[bytes] = []

    class Closing(Blocks):
        def close(self) -> None:
            sent.append(output.body)

    respond(answering(Closing(b"x")), output)
    assert sent == [b"1\r\nx\r\n0\r\n\r\n"]


def test_close_without_a_response() -> None:
    body = Blocks(b"x")
    assert_500(*respond(lambda environ, start_response: body))
    assert body.closed == 1


@pytest.mark.parametrize("error", [RuntimeError("in close"), SystemExit(1)], ids=repr)
def test_an_error_in_close_spoils_nothing_that_was_sent(error: BaseException, capfd: Capture) -> None:
    body = Blocks(b"x", on_close=error)
    call, output = respond(answering(body))
    assert output.body == b"1\r\nx\r\n0\r\n\r\n"
    assert call.persistent
    assert "close() of the response failed: GET /path" in capfd.readouterr().err


# A client that goes


@pytest.mark.parametrize("make", [lambda: [b"x"], lambda: Blocks(b"x", b"y"), Blocks])
def test_a_client_gone_before_the_first_byte_is_sent_nothing(make: Callable[[], Any], capfd: Capture) -> None:
    call, output = respond(answering(make()), FakeOutput(sends=0))
    assert (call.status_code, call.body_sent, call.persistent, call.broken) == (0, 0, False, False)
    assert output.data == b""
    assert capfd.readouterr().err == ""


def test_a_client_gone_in_the_middle(capfd: Capture) -> None:
    body = Blocks(b"one", b"two", b"three")
    call, _ = respond(answering(body), FakeOutput(sends=2))
    assert (call.status_code, call.body_sent, call.persistent) == (0, 6, False)
    assert (body.taken, body.closed) == (3, 1)
    assert capfd.readouterr().err == ""


def test_a_client_gone_before_the_500(capfd: Capture) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        raise RuntimeError("boom")

    call, _ = respond(application, FakeOutput(sends=0))
    assert (call.status_code, call.body_sent, call.persistent) == (0, 0, False)
    assert "RuntimeError: boom" in capfd.readouterr().err


def test_an_application_that_swallows_the_news_is_told_again() -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        write = start_response("200 OK", [])
        for _ in range(3):
            with pytest.raises(Disconnected):
                write(b"x")
        return [b"more"]

    call, output = respond(application, FakeOutput(sends=0))
    assert (output.data, call.status_code, call.persistent) == (b"", 0, False)


def test_an_output_that_fails_otherwise_leaves_no_client_waiting(capfd: Capture) -> None:
    """A defect of the output must not look like a response that was sent."""

    class Failing(FakeOutput):
        def send(self, data: bytes, *, last: bool, head: bytes = b"") -> None:
            raise OSError("no such thing")

    call, _ = respond(answering([b"x"]), Failing())
    assert not call.persistent
    assert "OSError: no such thing" in capfd.readouterr().err


# Early hints


def hints(call_with: list[tuple[str, str]], minor: int = 1, body: Any = (b"x",)) -> tuple[Call, FakeOutput]:
    output = FakeOutput()

    def application(environ: Environ, start_response: Start) -> Any:
        environ["hints"](call_with)
        start_response("200 OK", [])
        return body

    call = new_call(output, minor)
    call.run(application, {"hints": call.early_hints})
    return call, output


def test_early_hints_go_before_the_response() -> None:
    call, output = hints([("Link", "</a.css>; rel=preload"), ("Link", "</b.js>; rel=preload")])
    assert output.sent[0] == b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nLink: </b.js>; rel=preload\r\n\r\n"
    assert output.sent[1].startswith(b"HTTP/1.1 200 OK\r\n")
    assert (call.status_code, call.persistent) == (200, True)


@pytest.mark.parametrize("fields", [[], [("Connection", "close")], [("Content-Length", "3"), ("Upgrade", "x")]])
def test_early_hints_without_a_field_that_may_be_sent(fields: list[tuple[str, str]]) -> None:
    _, output = hints(fields)
    assert output.sent[0] == b"HTTP/1.1 103 Early Hints\r\n\r\n"


def test_early_hints_are_not_for_1_0() -> None:
    _, output = hints([("Link", "x")], minor=0)
    assert output.status == 200


def test_early_hints_are_checked() -> None:
    assert_500(*hints([("Link", "a\r\n\r\nHTTP/1.1 200 OK")]))


def test_early_hints_after_the_head_fail() -> None:
    output = FakeOutput()
    call = new_call(output)

    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"x"
        with pytest.raises(AssertionError, match="early hints come before"):
            call.early_hints([("Link", "x")])

    call.run(application, {})
    assert output.data.count(b"HTTP/1.1") == 1


# Nothing yet


def test_an_empty_block_asks_whether_the_client_is_still_there() -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        write = start_response("200 OK", [])
        yield b""
        yield b"ab"
        write(b"")
        yield b"cde"
        yield b""

    _, output = respond(application)
    assert output.silences == [0, 2, 5]
    assert output.body == b"2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"


def test_an_iterable_of_empty_blocks_is_closed_when_the_client_is_gone() -> None:
    body = Blocks(b"", b"x")
    call, output = respond(answering(body), FakeOutput(sends=0))
    assert (body.closed, body.taken, output.data) == (1, 1, b"")
    assert (call.status_code, call.persistent) == (0, False)


# The file wrapper


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 10)
    return path


def test_a_file_goes_by_its_descriptor_and_is_closed(path: Path) -> None:
    path.write_bytes(b"0123456789" * 10_000)
    file = path.open("rb")
    call, output = respond(answering(FileWrapper(file)))
    assert output.files == [(0, 100_000)]
    assert output.field(b"Content-Length") == b"100000"
    assert output.body == path.read_bytes()
    assert (call.persistent, call.body_sent, call.status_code) == (True, 100_000, 200)
    assert file.closed


def test_a_small_file_is_read_and_closed(path: Path) -> None:
    file = path.open("rb")
    call, output = respond(answering(FileWrapper(file)))
    assert (output.files, len(output.sent)) == ([], 1)
    assert output.field(b"Content-Length") == b"100"
    assert output.body == path.read_bytes()
    assert (call.persistent, call.body_sent, call.status_code) == (True, 100, 200)
    assert file.closed


def test_a_file_shorter_than_its_size_is_sent_with_its_length(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files under /sys say that they have 4,096 bytes."""
    file = path.open("rb")
    file.seek(10)
    monkeypatch.setattr(FileWrapper, "region", lambda self: (file.fileno(), 10, 4086))
    call, output = respond(answering(FileWrapper(file)))
    assert output.field(b"Content-Length") == b"90"
    assert output.body == path.read_bytes()[10:]
    assert call.persistent
    call, output = respond(answering(FileWrapper(path.open("rb")), headers=[("Content-Length", "4086")]))
    assert len(output.body) < 4086
    assert not call.persistent


def test_a_small_file_that_cannot_be_read_is_a_500(path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture) -> None:
    def fail(fd: int, count: int, offset: int) -> bytes:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "pread", fail)
    assert_500(*respond(answering(FileWrapper(path.open("rb")))))
    assert "Input/output error" in capfd.readouterr().err


def test_a_file_from_where_it_stands_and_no_more_than_the_length(path: Path) -> None:
    path.write_bytes(b"0123456789" * 10_000)
    for length in (7, 70_000):
        file = path.open("rb")
        file.seek(5)
        call, output = respond(answering(FileWrapper(file), headers=[("Content-Length", str(length))]))
        assert output.files == ([(5, 70_000)] if length == 70_000 else [])
        assert output.body == path.read_bytes()[5 : 5 + length]
        assert call.persistent


def test_a_file_shorter_than_the_length_ends_the_connection(path: Path) -> None:
    call, output = respond(answering(FileWrapper(path.open("rb")), headers=[("Content-Length", "101")]))
    assert output.field(b"Content-Length") == b"101"
    assert len(output.body) == 100
    assert not call.persistent


@pytest.mark.parametrize("headers", [[], [("Content-Length", "0")]])
def test_an_empty_file(tmp_path: Path, headers: list[tuple[str, str]]) -> None:
    (tmp_path / "empty").touch()
    call, output = respond(answering(FileWrapper((tmp_path / "empty").open("rb")), headers=headers))
    assert output.field(b"Content-Length") == b"0"
    assert output.ended
    assert call.persistent


def test_a_file_of_length_0(path: Path) -> None:
    call, output = respond(answering(FileWrapper(path.open("rb")), headers=[("Content-Length", "0")]))
    assert (output.body, output.ended, call.persistent) == (b"", True, True)


def test_a_file_to_head_and_to_a_bodiless_status(path: Path) -> None:
    for options in ({"head": True}, {}):
        file = path.open("rb")
        status = "200 OK" if options else "304 Not Modified"
        call, output = respond(answering(FileWrapper(file), status, [("Content-Length", "100")]), **options)  # type: ignore[arg-type]
        assert output.field(b"Content-Length") == b"100"
        assert (output.body, output.ended, call.persistent, file.closed) == (b"", True, True, True)


def test_a_file_after_a_write_is_read(path: Path) -> None:
    def application(environ: Environ, start_response: Start) -> FileWrapper:
        start_response("200 OK", [("Content-Length", "103")])(b"abc")
        return FileWrapper(path.open("rb"), 64)

    call, output = respond(application)
    assert output.files == []
    assert output.body == b"abc" + path.read_bytes()
    assert call.persistent


def test_a_file_whose_client_goes_is_closed(path: Path) -> None:
    file = path.open("rb")
    call, _ = respond(answering(FileWrapper(file)), FakeOutput(sends=0))
    assert (file.closed, call.status_code, call.body_sent, call.persistent) == (True, 0, 0, False)


def test_a_text_file_is_a_500(path: Path) -> None:
    assert_500(*respond(answering(FileWrapper(path.open()))))


def test_a_file_without_start_response_is_a_500(path: Path) -> None:
    file = path.open("rb")
    assert_500(*respond(lambda environ, start_response: FileWrapper(file)))
    assert file.closed


# Taken by the application (`gunicorn.socket`)


def test_a_connection_that_is_taken_has_no_response(capfd: Capture) -> None:
    """`status_code` is that of a response which is not sent, for the exchange to log that; 101 when there was none."""
    for end in ([b"ignored"], StopIteration(), ConnectionError("closed")):
        output = FakeOutput(sends=0)
        call = new_call(output)

        def application(environ: Environ, start_response: Start, call: Call = call, end: Any = end) -> Any:
            call.detach()
            if isinstance(end, BaseException):
                raise end
            start_response("200 OK", [])
            return end

        call.run(application, {})
        assert (output.data, call.status_code, call.broken) == (b"", 101 if isinstance(end, Exception) else 200, False)
        assert capfd.readouterr().err == ""


# wsgiref's opinion


def validated(application: Callable[..., Any], method: str = "GET") -> tuple[Call, FakeOutput]:
    environ = template(
        server=("localhost", 80), secure=False, errors=sys.stderr, threads=True, processes=True, software="starman/test"
    )
    head, body, length = request(method.encode() + b" /path?x=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc")
    environ = build(for_connection(environ, ("127.0.0.1", 1), None), head, body, length)
    return respond(validator(application), environ=environ, head=method == "HEAD")


TEXT = [("Content-Type", "text/plain")]


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "OPTIONS"])
@pytest.mark.parametrize("blocks", [[b"hello"], [b"", b"he", b"llo"], [b""], []])
def test_the_validator_finds_nothing(method: str, blocks: list[bytes], capfd: Capture) -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        assert environ["wsgi.input"].read(10) == b"abc"
        environ["wsgi.errors"].flush()
        start_response("200 OK", TEXT)
        return iter(blocks)

    call, output = validated(application, method)
    assert (output.status, call.persistent) == (200, True)
    assert capfd.readouterr().err == ""


def test_the_validator_finds_nothing_in_write_and_exc_info(capfd: Capture) -> None:
    def application(environ: Environ, start_response: Start) -> list[bytes]:
        start_response("200 OK", TEXT)
        try:
            raise ValueError
        except ValueError:
            write = start_response("500 Oops", TEXT, sys.exc_info())
        write(b"written")
        return [b"returned"]

    call, output = validated(application)
    assert output.body == b"7\r\nwritten\r\n8\r\nreturned\r\n0\r\n\r\n"
    assert call.persistent
    assert capfd.readouterr().err == ""


def test_the_validator_finds_nothing_in_errors(capfd: Capture) -> None:
    def application(environ: Environ, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"begun"
        raise RuntimeError("boom")

    call, output = validated(application)
    assert output.body == b"5\r\nbegun\r\n"
    assert not call.persistent
    assert "AssertionError" not in capfd.readouterr().err


# starman.harakiri


def wishing(when: str) -> Any:
    """An application that wishes the end of its process: before or while it responds, at close(), or with an error."""

    def app(environ: Any, start_response: Any) -> Any:
        def wish() -> None:
            environ["starman.harakiri"] = True

        class Late:
            def __iter__(self) -> Any:
                return iter([b"x"])

            def close(self) -> None:
                wish()

        def stream() -> Any:
            yield b"x"
            wish()
            yield b"y"

        if when == "error":
            wish()
            raise ValueError("broken")
        start_response("200 OK", [])
        if when == "before":
            wish()
        return {"before": [b"x"], "while": stream(), "close": Late(), "never": [b"x"]}[when]

    return app


@pytest.mark.parametrize("when", ["before", "while", "close", "error"])
def test_an_application_can_wish_the_end_of_its_process(when: str) -> None:
    _, output = respond(wishing(when), environ={"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "starman.harakiri": False})
    assert output.harakiris == 1
    assert output.wished_first == (when in ("before", "error"))


def written(environ: Any, start_response: Any) -> Any:
    """Wishes it behind the first block, so behind the head."""
    start_response("200 OK", [])(b"x")
    environ["starman.harakiri"] = True
    return []


def detached(call: Call) -> Any:
    """Wishes it when it is done with a protocol of its own."""

    def app(environ: Any, start_response: Any) -> Any:
        call.detach()
        environ["starman.harakiri"] = True
        return []

    return app


def without_a_head(environ: Any, start_response: Any) -> Any:
    environ["starman.harakiri"] = True
    return [b"x"]


def not_bytes(environ: Any, start_response: Any) -> Any:
    start_response("200 OK", [])
    environ["starman.harakiri"] = True
    return [1]


@pytest.mark.parametrize("kind", ["written", "detached", "without a head", "not bytes"])
def test_a_list_hides_no_wish_that_its_head_did_not_hear(kind: str) -> None:
    output = FakeOutput()
    call = new_call(output)
    app = {"written": written, "detached": detached(call), "without a head": without_a_head, "not bytes": not_bytes}[kind]
    call.run(app, {"REQUEST_METHOD": "GET", "REQUEST_URI": "/", "starman.harakiri": False})
    assert output.harakiris == 1


@pytest.mark.parametrize("environ", [{}, {"starman.harakiri": False}])
def test_an_application_that_wishes_nothing_goes_on(environ: dict[str, Any]) -> None:
    _, output = respond(wishing("never"), environ={"REQUEST_METHOD": "GET", "REQUEST_URI": "/", **environ})
    assert output.harakiris == 0
