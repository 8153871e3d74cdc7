"""starman.gunicorn.workers.request_hooks: the wrapper that calls pre_request and post_request."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from starman import log
from starman.gunicorn.stand_in_logger import Logger
from starman.gunicorn.workers.config import Config
from starman.gunicorn.workers.look_alikes import Server, Worker
from starman.gunicorn.workers.request_hooks import RequestHooks
from starman.wsgi.filewrapper import FileWrapper
from tests.unit.gunicorn.resolving import resolved


class Process:
    """Has the worker of a process."""

    def __init__(self) -> None:
        cfg = Config(resolved(workers=3, bind=[":80", "unix:x"]))
        self.server = Server(cfg, Logger(cfg))
        self.worker: Worker | None = Worker(self.server, 4711, 2)


def environ(**more: Any) -> dict[str, Any]:
    return {
        "REQUEST_METHOD": "POST",
        "RAW_URI": "/a%20b?x=1",
        "PATH_INFO": "/a b",
        "wsgi.url_scheme": "http",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "10.0.0.1",
        "REMOTE_PORT": "99",
        "HTTP_USER_AGENT": "x",
        "CONTENT_TYPE": "text/plain",
        **more,
    }


def run(application: Callable[..., Any], before: Any = None, after: Any = None) -> tuple[list[str], bytes]:
    """The statuses and the body that a server would receive."""
    statuses: list[str] = []
    hooked = RequestHooks(application, Process(), before, after)
    found: Iterable[bytes] = hooked(environ(), lambda status, headers, exc_info=None: statuses.append(status) or statuses.append)
    body = b"".join(found)
    close = getattr(found, "close", None)
    if close is not None:
        close()
    return statuses, body


def hello(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("A", "b")])
    return [b"hello ", b"world"]


def test_both_hooks_see_the_request_and_the_response() -> None:
    seen: list[object] = []

    def before(worker: Worker, req: Any) -> None:
        req.own = "set"
        seen.extend([worker.pid, worker.nr, req.method, req.path, req.query, req.uri, req.version, req.remote_addr])
        seen.append(sorted(req.headers))

    def after(worker: Worker, req: Any, environ: dict[str, Any], resp: Any) -> None:
        seen.extend([req.own, environ["PATH_INFO"], resp.status, resp.status_code, resp.headers, resp.sent])

    assert run(hello, before, after) == (["200 OK"], b"hello world")
    assert seen == [
        *(4711, 1, "POST", "/a%20b", "x=1", "/a%20b?x=1", (1, 1), ("10.0.0.1", 99)),
        [("CONTENT-TYPE", "text/plain"), ("USER-AGENT", "x")],
        *("set", "/a b", "200 OK", 200, [("A", "b")], 11),
    ]


def test_post_request_follows_the_close_of_the_response() -> None:
    order: list[str] = []

    class Body:
        def __iter__(self) -> Any:
            order.append("iterated")
            return iter([b"x"])

        def close(self) -> None:
            order.append("closed")

    def application(environ: dict[str, Any], start_response: Any) -> Body:
        start_response("200 OK", [])
        return Body()

    run(application, None, lambda worker, req: order.append("post"))
    assert order == ["iterated", "closed", "post"]


def test_a_file_stays_a_file() -> None:
    order: list[str] = []
    file = io.BytesIO(b"file")

    def application(environ: dict[str, Any], start_response: Any) -> FileWrapper:
        start_response("200 OK", [])
        return FileWrapper(file)

    hooked = RequestHooks(application, Process(), None, lambda *arguments: order.append(f"post {file.closed}"))
    found = hooked(environ(), lambda *arguments: None)
    assert type(found) is FileWrapper
    assert b"".join(found) == b"file"
    found.close()
    assert order == ["post True"]


def test_written_bytes_count() -> None:
    sent: list[int] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"abc")
        return []

    run(application, None, lambda worker, req, environ, resp: sent.append(resp.sent))
    assert sent == [3]


def test_an_exception_of_the_application_ends_in_post_request() -> None:
    seen: list[object] = []

    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        raise KeyError("x")

    with pytest.raises(KeyError):
        run(application, None, lambda worker, req, environ, resp: seen.append(resp.status))
    assert seen == [None]


def test_an_exception_of_pre_request_fails_the_request() -> None:
    def before(worker: Worker, req: Any) -> None:
        raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        run(hello, before)


def test_an_exception_of_post_request_is_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(log, "error", lines.append)

    def after(worker: Worker, req: Any) -> None:
        raise ValueError("x")

    assert run(hello, None, after) == (["200 OK"], b"hello world")
    assert lines[0].startswith("Exception in post_request hook\nTraceback")


def changed_by(before: Any) -> dict[str, Any]:
    """The environ that the application receives after this pre_request hook."""
    seen: dict[str, Any] = {}

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        seen.update(environ)
        return hello(environ, start_response)

    run(application, before)
    return seen


def test_what_pre_request_changes_is_in_the_environ() -> None:
    def before(worker: Worker, req: Any) -> None:
        req.scheme = "https"
        req.headers.append(("X-OWN", "a"))
        req.headers.append(("X-OWN", "b"))
        req.headers.remove(("USER-AGENT", "x"))

    found = changed_by(before)
    expected = environ(**{"wsgi.url_scheme": "https", "HTTP_X_OWN": "a,b"})
    del expected["HTTP_USER_AGENT"]
    assert found == expected


def test_a_list_of_new_fields_replaces_those_of_the_request() -> None:
    def before(worker: Worker, req: Any) -> None:
        req.headers = [(name, value) for name, value in req.headers if name != "USER-AGENT"] + [("CONTENT-TYPE", "text/html")]

    found = changed_by(before)
    assert "HTTP_USER_AGENT" not in found
    assert found["CONTENT_TYPE"] == "text/html"


def test_fields_that_are_only_read_leave_the_environ_as_it_is() -> None:
    assert changed_by(lambda worker, req: req.headers) == environ()


def test_without_post_request_the_response_is_untouched() -> None:
    blocks = [b"x"]
    hooked = RequestHooks(lambda environ, start: blocks, Process(), lambda worker, req: None, None)
    assert hooked(environ(), lambda *arguments: None) is blocks


def test_attributes_of_the_application_stay() -> None:
    def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        return []

    application.colour = "red"  # type: ignore[attr-defined]
    assert RequestHooks(application, Process(), None, None).colour == "red"


def test_the_look_alikes_have_what_hooks_use() -> None:
    process = Process()
    server, worker = process.server, process.worker
    assert worker is not None
    assert server.address == [("", 80), "x"]
    assert (server.cfg.workers, server.num_workers, server.WORKERS) == (3, 3, {})  # type: ignore[attr-defined]
    assert (worker.age, worker.ppid, worker.wsgi, worker.app.wsgi()) == (2, server.pid, None, None)
    worker.own = server.own = 1  # type: ignore[attr-defined]
    assert str(worker) == "<Worker 4711>"


def test_a_response_has_what_post_request_needs() -> None:
    """Its attributes have gunicorn's names. Any other is named as one of a stand-in."""
    seen: list[Any] = []

    def sized(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        start_response("200 OK", [("content-length", "5"), ("A", "b")])
        return [b"hello"]

    def after(worker: Any, request: Any, environ: Any, response: Any) -> None:
        seen.append((response.response_length, response.sent, response.chunked, response.headers_sent, response.upgrade))
        seen.append(response.cfg is worker.cfg)
        for unknown in (lambda: response.write_file, lambda: request.unreader):
            try:
                unknown()
            except AttributeError as error:
                seen.append(str(error))

    unknown = [
        f"starman's stand-in for gunicorn's {what}"
        for what in ("response has no attribute 'write_file'", "request has no attribute 'unreader'")
    ]
    run(sized, after=after)
    assert seen == [(5, 5, False, True, False), True, *unknown]
    seen.clear()
    run(hello, after=after)
    assert seen == [(None, 11, True, True, False), True, *unknown]
