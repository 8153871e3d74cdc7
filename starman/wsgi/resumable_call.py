"""A call that can stop between two blocks of its response and go on later: for a server that has no thread to wait in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, cast

from starman.wsgi.call import Call
from starman.wsgi.output import Output

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from starman.proto.response import RequestFacts, Stamp
    from starman.wsgi.environ import Environ


class ResumableOutput(Output, Protocol):
    """Where the bytes of such a call go.

    may_pause: set while a block of the iterable is sent, for the call can stop behind it; not behind what the application writes.
    """

    may_pause: bool

    def must_pause(self) -> bool:
        """Whether the call is to stop behind the block that was sent last."""

    def resume(self) -> None:
        """The call goes on. Raises Disconnected."""


class ResumableCall(Call):
    """As Call, but `run` may return before the response is complete: `paused` says so, and `resume_call` is then due."""

    __slots__ = ("_iterable", "_pausable", "_rest", "paused")

    def __init__(self, facts: RequestFacts, output: Output, stamp: Stamp) -> None:
        """`output` is a ResumableOutput."""
        super().__init__(facts, output, stamp)
        self.paused = False
        self._pausable = cast("ResumableOutput", output)
        self._iterable: Any = None
        self._rest: Iterator[object] | None = None

    def resume_call(self, environ: Environ) -> None:
        """Go on where it has stopped, as if the application had just returned its iterable; as `run`, it may stop again."""
        # Kept by nobody meanwhile: an iterable often leads back to its environ, and that one to us.
        iterable, self._iterable = self._iterable, None
        self.paused = False
        self.run(lambda environ, start_response: iterable, environ)

    def _blocks(self, iterable: Iterable[object]) -> Iterator[object]:
        output = self._pausable
        rest, self._rest = self._rest, None
        if rest is None:
            rest = iter(iterable)
        else:
            output.resume()
        for block in rest:
            output.may_pause = True
            yield block
            output.may_pause = False
            if output.must_pause():
                self._rest, self._iterable, self.paused = rest, iterable, True
                return

    def _end(self) -> None:
        if not self.paused:
            super()._end()

    def _close(self, iterable: Any, environ: Environ) -> None:
        if not self.paused:
            self._pausable.may_pause = False
            super()._close(iterable, environ)
