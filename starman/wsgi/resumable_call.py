"""Calls an application so that its response can pause between two blocks, for a server without threads that could
wait."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from starman.wsgi.call import Call
from starman.wsgi.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starman.proto.response import DateLines, RequestFacts
    from starman.wsgi.environ import Environ


class ResumableOutput(Output, Protocol):
    """Sends the bytes of a call that can pause.

    may_pause: whether the call can pause after the block that is being sent: for blocks of the iterable, not of
    `write`.
    """

    may_pause: bool

    def must_pause(self) -> bool:
        """Whether the call must pause after the block that was sent last."""

    def resume(self) -> None:
        """Note that the call resumes. Raises Disconnected."""


class ResumableCall(Call):
    """A Call with a `run` that may return before the response is complete. `paused` is then true: call `resume_call`
    later."""

    __slots__ = ("_iterable", "_pausable", "_remaining", "paused")

    def __init__(self, facts: RequestFacts, output: Output, date_lines: DateLines) -> None:
        """`output` is a ResumableOutput."""
        super().__init__(facts, output, date_lines)
        self.paused = False
        self._pausable = cast("ResumableOutput", output)
        self._iterable: Any = None
        self._remaining: Iterator[object] | None = None

    def resume_call(self, environ: Environ) -> None:
        """Resume the response after the last block, as if the application had just returned its iterable. May pause
        again."""
        # Drop the reference: an iterable often refers to its environ, which refers to this call.
        iterable, self._iterable = self._iterable, None
        self.paused = False
        self.run(lambda environ, start_response: iterable, environ)

    def _blocks(self, iterable: Iterable[object]) -> Iterator[object]:
        output = self._pausable
        remaining, self._remaining = self._remaining, None
        if remaining is None:
            remaining = iter(iterable)
        else:
            output.resume()
        for block in remaining:
            output.may_pause = True
            yield block
            output.may_pause = False
            if output.must_pause():
                self._remaining, self._iterable, self.paused = remaining, iterable, True
                return

    def _end(self) -> None:
        if not self.paused:
            super()._end()

    def _close(self, iterable: Any, environ: Environ) -> None:
        if not self.paused:
            self._pausable.may_pause = False
            super()._close(iterable, environ)
