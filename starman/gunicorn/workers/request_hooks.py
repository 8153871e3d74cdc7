"""pre_request and post_request: a wrapper around the application, only if the configuration has one of these hooks."""

from __future__ import annotations

from starman.gunicorn.workers.look_alikes import Request, Response
from starman.wsgi.filewrapper import FileWrapper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, Protocol

    from starman.gunicorn.workers.look_alikes import Environ, Worker

    Hook = Callable[..., object]

    class HasWorker(Protocol):
        """The hooks of a process. worker: this worker; None in a mold, which serves no requests."""

        worker: Worker | None


class RequestHooks:
    """A WSGI application that calls `pre_request(worker, req)` before another one, and
    `post_request(worker, req, environ, resp)` after its response. Threads call it.

    What pre_request changes in the scheme and the fields of the request is what the application sees. An exception of
    pre_request fails the request, as in gunicorn; one of post_request is logged. `post_request` may take two or three
    arguments only.
    """

    def __init__(self, application: Callable[..., Any], process: HasWorker, before: Hook | None, after: Hook | None) -> None:
        self._application = application
        self._process = process
        self._before = before
        self._after = after
        self._arguments = _argument_count(after) if after is not None else 0

    def __getattr__(self, name: str) -> Any:
        """An attribute of the application itself."""
        return getattr(self._application, name)

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        worker = self._process.worker
        assert worker is not None
        worker.nr += 1
        request = Request(environ)
        response = Response(request, worker.cfg)

        def start(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Callable[[bytes], object]:
            write = start_response(status, headers, *exc_info)
            response.start(status, headers)
            return _counting(write, response)

        try:
            if self._before is not None:
                self._before(worker, request)
                request.apply(environ)
            found = self._application(environ, start)
        except BaseException:
            self._finish(worker, request, environ, response)
            raise
        if self._after is None:
            return found  # type: ignore[no-any-return]
        done = _Once(lambda: self._finish(worker, request, environ, response))
        if type(found) is FileWrapper:
            # As it is, because it is sent with sendfile.
            found.close = _both(found.close, done)  # type: ignore[method-assign]
            return found
        return _Blocks(found, response, done)

    def _finish(self, worker: Worker, request: Request, environ: Environ, response: Response) -> None:
        if self._after is None:
            return
        response.finish()
        try:
            self._after(*(worker, request, environ, response)[: self._arguments])
        except Exception:
            worker.log.exception("Exception in post_request hook")


class _Blocks:
    """The blocks of a response: counts them, and calls `done` when the response is closed."""

    __slots__ = ("_blocks", "_close", "_done", "_response")

    def __init__(self, found: Iterable[bytes], response: Response, done: Callable[[], None]) -> None:
        self._close = getattr(found, "close", None)
        self._blocks = iter(found)
        self._response = response
        self._done = done

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        block = next(self._blocks)
        self._response.sent += len(block)
        return block

    def close(self) -> None:
        """Close the response of the application, then call `done`."""
        try:
            if self._close is not None:
                self._close()
        finally:
            self._done()


class _Once:
    """Calls a function the first time only."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()


def _both(close: Callable[[], None], done: Callable[[], None]) -> Callable[[], None]:
    def closed() -> None:
        try:
            close()
        finally:
            done()

    return closed


def _counting(write: Callable[[bytes], object], response: Response) -> Callable[[bytes], object]:
    def counted(data: bytes) -> object:
        response.sent += len(data)
        return write(data)

    return counted


def _argument_count(hook: Hook) -> int:
    """How many arguments to pass to a post_request hook: 2, 3 or 4."""
    import inspect

    try:
        parameters = inspect.signature(hook).parameters.values()
    except (TypeError, ValueError):
        return 4
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if any(each.kind is each.VAR_POSITIONAL for each in parameters):
        return 4
    return min(4, len(positional))
