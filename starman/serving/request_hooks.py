"""Runs the hooks of requests (`hooks.request_started`, `hooks.request_finished`).

A service decides once, when it starts, whether there are any. Without them, requests run the code that they always
run, and pay nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from starman import hooks
from starman.serving.body.streaming_exchange import StreamedExchange
from starman.serving.exchange import Exchange
from starman.serving.executors.inline import InlineExchange
from starman.wsgi.call import Call
from starman.wsgi.resumable_call import ResumableCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from starman.serving.context import ServiceContext
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.wsgi.call import Application
    from starman.wsgi.environ import Environ


def add_request_hooks(context: ServiceContext) -> None:
    """If hooks of requests are registered, have the requests of this service run them. Loop, before the first
    request."""
    if hooks.is_registered("request_started"):
        context.application = _started_first(context.application)
    if hooks.is_registered("request_finished"):
        inline = context.make_exchange is InlineExchange
        context.make_exchange = _HookedInlineExchange if inline else _HookedExchange
        context.make_streamed_exchange = _HookedStreamedExchange


def _started_first(application: Application) -> Application:
    """The application, with the `request_started` hooks before each call. Thread of the request."""

    def call_with_hooks(environ: Environ, start_response: Callable[..., Callable[[bytes], object]]) -> Iterable[Any]:
        hooks.run_logged("request_started", environ)
        return application(environ, start_response)

    return call_with_hooks


class _HookedExchange(Exchange):
    __slots__ = ()

    def _finish(self, call: Call, environ: Environ) -> QueuedRequest | None:
        self._finish_body(call)
        hooks.run_logged("request_finished", environ, self.final_status(call))
        return super()._finish(call, environ)


class _HookedStreamedExchange(StreamedExchange):
    __slots__ = ()

    def _finish(self, call: Call, environ: Environ) -> QueuedRequest | None:
        self._finish_body(call)
        hooks.run_logged("request_finished", environ, self.final_status(call))
        return super()._finish(call, environ)


class _HookedInlineExchange(InlineExchange):
    __slots__ = ()

    def _finish(self, call: Call, environ: Environ) -> QueuedRequest | None:
        if not (isinstance(call, ResumableCall) and call.paused):
            self._finish_body(call)
            hooks.run_logged("request_finished", environ, self.final_status(call))
        return super()._finish(call, environ)
