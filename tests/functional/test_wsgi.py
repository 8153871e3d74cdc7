"""PEP 3333 for applications: environ, input, write, exc_info, file_wrapper, close(), and the result of errors."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tests.functional.conftest import Events
from tests.functional.support.applications import pattern
from tests.functional.support.harness import Server, wait_until
from tests.functional.support.wire import Client, TruncatedError, WireError, encode_chunks, encode_request

SECRET = b"secret"


def reset(client: Client) -> None:
    """Close the connection by an RST, with or without unread data."""
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


# environ


def environ_of(client: Client, target: str = "/environ", *fields: tuple[str, str]) -> dict[str, Any]:
    return dict(json.loads(client.get(target, *fields).body))


def test_environ_has_the_names_of_pep_3333(server: Server, client: Client) -> None:
    environ = environ_of(client, "/environ/a%20b?x=1&y=%41")
    assert environ["REQUEST_METHOD"] == "GET"
    assert environ["SCRIPT_NAME"] == ""
    assert environ["PATH_INFO"] == "/environ/a b"
    assert environ["QUERY_STRING"] == "x=1&y=%41"
    assert environ["SERVER_NAME"]
    assert environ["SERVER_PORT"] == str(server.port)
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.1"
    assert environ["wsgi.version"] == [1, 0]
    assert environ["wsgi.url_scheme"] == "http"
    assert environ["wsgi.multithread"] is True
    assert environ["wsgi.run_once"] is False
    assert isinstance(environ["wsgi.multiprocess"], bool)
    assert {"wsgi.input", "wsgi.errors", "wsgi.file_wrapper"} <= environ.keys()


def test_environ_has_the_names_that_frameworks_look_for(client: Client) -> None:
    environ = environ_of(client, "/environ/%c3%a4?q")
    assert environ["wsgi.input_terminated"] is True
    assert environ["REQUEST_URI"] == environ["RAW_URI"] == "/environ/%c3%a4?q"
    assert environ["REMOTE_ADDR"] == "127.0.0.1"
    assert environ["REMOTE_PORT"] == str(client.socket.getsockname()[1])
    assert environ["PATH_INFO"] == "/environ/\xc3\xa4"


def test_fields_become_http_names(client: Client) -> None:
    fields = [("X-Foo", " padded\t"), ("X-Twice", "1"), ("x-twice", "2"), ("Cookie", "a=1"), ("Cookie", "b=2")]
    fields += [("X_Under", "no"), ("Proxy", "http://evil/"), ("Authorization", "Basic x"), ("Content-Type", "text/x")]
    environ = environ_of(client, "/environ", *fields)
    assert environ["HTTP_X_FOO"] == "padded"
    assert environ["HTTP_X_TWICE"].replace(" ", "") == "1,2"
    assert environ["HTTP_COOKIE"] == "a=1; b=2"
    assert environ["HTTP_HOST"] == "localhost"
    assert environ["HTTP_AUTHORIZATION"] == "Basic x"
    assert environ["CONTENT_TYPE"] == "text/x"
    assert not {"HTTP_X_UNDER", "HTTP_PROXY", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & environ.keys()


def test_environ_holds_nothing_of_the_process_environment(client: Client) -> None:
    assert not {"PATH", "TEST_EVENTS", "HOME"} & environ_of(client).keys()
    assert "HTTP_AUTHORIZATION" not in environ_of(client)


def test_a_chunked_body_has_a_content_length(client: Client) -> None:
    client.send(encode_request("POST", "/environ", [("Transfer-Encoding", "chunked")]) + encode_chunks([b"ab", b"c"]))
    environ = json.loads(client.read().body)
    assert environ["CONTENT_LENGTH"] == "3"
    assert "HTTP_TRANSFER_ENCODING" not in environ


@pytest.mark.parametrize(
    ("target", "path"),
    [("/environ%2cx", "/environ,x"), ("/environ%252c", "/environ%2c"), ("//environ//a", "//environ//a")],
)
def test_the_path_is_decoded_once_and_otherwise_kept(server: Server, target: str, path: str) -> None:
    with server.client() as client:
        response = client.get(f"/environ/..{target}")
        assert json.loads(response.body)["PATH_INFO"] == f"/environ/..{path}"


def test_absolute_form_replaces_host(client: Client) -> None:
    environ = environ_of(client, "http://example.test:8080/environ?x")
    assert (environ["HTTP_HOST"], environ["PATH_INFO"], environ["QUERY_STRING"]) == ("example.test:8080", "/environ", "x")


def test_server_names_on_a_unix_socket(tmp_path: str) -> None:
    with Server(listen=f"{tmp_path}/s.sock") as server, server.client() as client:
        environ = environ_of(client)
        assert environ["SERVER_NAME"]
        assert environ["SERVER_PORT"]
        assert isinstance(environ["REMOTE_ADDR"], str)


def test_path_mounts_under_a_prefix() -> None:
    with Server("tests.functional.support.applications:app", "--path", "/mounted") as server, server.client() as client:
        environ = environ_of(client, "/mounted/environ/x")
        assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("/mounted", "/environ/x")


# Input


def test_every_reader_of_the_input(client: Client) -> None:
    response = client.request("POST", "/read-lines", body=b"123456\nsecond\nthird\nfourth")
    assert json.loads(response.body) == ["1234", "56\n", "second\n", "third\nfourth"]


def test_an_unread_body_does_not_spoil_the_connection(client: Client) -> None:
    assert client.request("POST", "/hello", body=pattern(3_000_000)).body == b"hello\n"
    assert client.request("POST", "/echo", body=b"0").body == b"0"


# start_response, write, exc_info


def test_write_comes_before_the_iterable(client: Client) -> None:
    response = client.get("/write")
    assert (response.status, response.body) == (200, b"one two three")


def test_exc_info_replaces_what_was_not_sent(client: Client) -> None:
    response = client.get("/exc-info")
    assert (response.status, response.body) == (502, b"replaced")
    assert (response.get("X-First"), response.get("X-Second")) == (None, "yes")


def test_exc_info_is_raised_again_once_the_head_is_sent(server: Server, client: Client) -> None:
    client.send(encode_request("GET", "/exc-info-late"))
    with pytest.raises(TruncatedError):
        client.read()
    server.wait_for("too late to replace")


@pytest.mark.parametrize("kind", ["never", "none", "twice", "split", "status", "number", "lengths", "text"])
def test_misuse_is_500_and_injects_nothing(server: Server, client: Client, kind: str) -> None:
    before = len(server.log)
    response = client.get(f"/misuse/{kind}")
    assert response.status == 500
    assert response.get("X-Injected") is None
    assert wait_until(lambda: len(server.log) > before), "nothing in the error log"


# Errors


def test_an_error_is_500_with_the_traceback_in_the_log_alone(server: Server) -> None:
    for target in ("/error-before", "/error-after-start"):
        before = server.log.count("ValueError: secret of the application")
        with server.client() as client:
            response = client.get(target)
        assert (response.status, response.reason) == (500, "Internal Server Error")
        assert SECRET not in response.body
        assert b"Traceback" not in response.body
        assert response.get("X-First") is None
        server.wait_for("ValueError: secret of the application", count=before + 1)
    assert "applications.py" in server.log


@pytest.mark.parametrize("kind", ["exit", "interrupt", "base"])
def test_no_exception_ends_the_worker(server: Server, kind: str) -> None:
    with server.client() as client:
        before = client.get("/pid").body
        assert client.get(f"/error-of-kind/{kind}").status == 500
    with server.client() as client:
        assert client.get("/pid").body == before


def test_an_error_in_mid_body_is_visibly_cut(server: Server, client: Client) -> None:
    client.send(encode_request("GET", "/closing/cut?fail=2&size=70000"))
    with pytest.raises(TruncatedError):
        client.read()
    server.wait_for("secret of the iterable")


def test_wsgi_errors_goes_to_the_error_log(server: Server, client: Client) -> None:
    client.get("/log-line")
    server.wait_for("a line of the application\nand another\n")


# Content-Length


def test_never_more_than_the_content_length(client: Client) -> None:
    response = client.get("/wrong-length/7")
    assert response.body == b"0123456"


def test_a_short_body_ends_the_connection(server: Server) -> None:
    with server.client() as client:
        client.send(encode_request("GET", "/wrong-length/12"))
        with pytest.raises(TruncatedError):
            client.read()


# close() is called exactly once


@pytest.mark.parametrize(
    ("name", "method", "query"),
    [
        ("whole", "GET", ""),
        ("head", "HEAD", ""),
        ("empty", "GET", "?blocks=0"),
        ("large", "GET", "?blocks=5&size=1000000"),
        ("fails-first", "GET", "?fail=0"),
        ("fails-later", "GET", "?fail=2"),
    ],
)
def test_close_is_called_once(server: Server, events: Events, name: str, method: str, query: str) -> None:
    with server.client() as client:
        client.send(encode_request(method, f"/closing/{name}{query}"))
        if "fails-later" in name:
            with pytest.raises(WireError):
                client.read(method)
        else:
            assert client.read(method).status == (500 if "fails" in name else 200)
        events.wait_for(f"close {name}")
    with server.client() as client:
        client.get("/hello")
    assert events.count(f"close {name}") == 1


@pytest.mark.parametrize("how", ["reset", "close"])
def test_close_is_called_once_when_the_client_goes(server: Server, events: Events, how: str) -> None:
    client = server.client()
    client.send(encode_request("GET", f"/endless?name={how}"))
    assert client.read_head().status == 200
    if how == "reset":
        reset(client)
    else:
        client.close()
    events.wait_for(f"close {how}")
    with server.client() as other:
        assert other.get("/hello").status == 200
    assert events.count(f"close {how}") == 1
    assert "BrokenPipeError" not in server.log
    assert "ConnectionResetError" not in server.log


# wsgi.file_wrapper


@pytest.mark.parametrize(
    ("query", "start", "stop", "framing"),
    [
        ("", 0, 300_000, None),
        ("?length=300000", 0, 300_000, "length"),
        ("?offset=1000&length=1234", 1000, 2234, "length"),
        ("?offset=299999", 299_999, 300_000, None),
        ("?offset=300000", 300_000, 300_000, None),
    ],
)
def test_file_wrapper(client: Client, events: Events, query: str, start: int, stop: int, framing: str | None) -> None:
    before = events.count("close file")
    response = client.get(f"/file{query}")
    assert response.body == pattern(300_000)[start:stop]
    assert framing is None or response.framing == framing
    assert wait_until(lambda: events.count("close file") == before + 1)
    assert client.get("/hello").body == b"hello\n"


def test_file_wrapper_promising_too_much_ends_the_connection(client: Client, events: Events) -> None:
    before = events.count("close file")
    client.send(encode_request("GET", "/file?offset=100&length=300000"))
    with pytest.raises(TruncatedError):
        client.read()
    assert wait_until(lambda: events.count("close file") == before + 1)


def test_file_wrapper_around_an_object_without_a_descriptor(client: Client, events: Events) -> None:
    assert client.get("/file-like").body == pattern(50_000)
    events.wait_for("close reader")


def test_file_wrapper_with_head(client: Client, events: Events) -> None:
    before = events.count("close file")
    assert client.request("HEAD", "/file").status == 200
    assert wait_until(lambda: events.count("close file") == before + 1)


# wsgiref.validate


@pytest.fixture(scope="module")
def validated() -> Iterator[Server]:
    arguments = ("--workers", "1", "-I", "examples", "-I", "examples/django_site")
    env = {"NOTES_DATABASE": ":memory:"}
    with Server("tests.functional.support.validated:app", *arguments, env=env, warnings="default") as server:
        yield server


@pytest.mark.parametrize(
    ("method", "target", "body", "expected"),
    [
        ("GET", "/hello/", None, b"Hello from starman\n"),
        ("HEAD", "/hello/", None, b""),
        ("GET", "/flask/", None, None),
        ("GET", "/flask/stream?lines=2", None, b"line 0\nline 1\n"),
        ("GET", "/flask/download?kind=memory", None, b"0123456789" * 100_000),
        ("HEAD", "/flask/download", None, b""),
        ("POST", "/flask/upload", b"abc", b'{"length":3,"md5":"900150983cd24fb0d6963f7d28e17f72"}\n'),
        ("GET", "/django/admin/login/", None, None),
    ],
)
def test_examples_under_the_validator(
    validated: Server, method: str, target: str, body: bytes | None, expected: bytes | None
) -> None:
    with validated.client() as client:
        response = client.request(method, target, (), body)
        assert response.status == 200, validated.log
        assert expected is None or response.body == expected
    assert "AssertionError" not in validated.log
