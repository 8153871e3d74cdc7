"""Messages between the observer process and the master: what the observer asks for, and what the master answers.

Values without I/O, like those of `messages.py`. The texts of answers are Python literals (`ascii`, and
`ast.literal_eval` in the observer): `json` would cost the master 0.4 MB.
"""

from __future__ import annotations

from starman.config.kinds import MOST_WORKERS
from starman.process.message_base import Message

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The longest text of the filters of all traces, in characters.
LONGEST_FILTERS = 16_384


class Alive(Message):
    """Observer to master, every few seconds: the observer's event loop runs."""

    __slots__ = ()


class Leaving(Message):
    """Observer to master: it ends next, because nothing has been asked of it for a while."""

    __slots__ = ()


class StatusQuery(Message):
    """Observer to master: send a `StatusReport`."""

    __slots__ = ()


class StacksQuery(Message):
    """Observer to master: have all processes write the stacks of their threads, and send a `StacksReport` within a
    second.

    force: also interrupt a process that runs no Python code in its main thread. This may crash that process
    (`worker.stack_dumps`).
    """

    __slots__ = ("force",)

    def __init__(self, *, force: bool = False) -> None:
        self.force = force

    def fields(self) -> tuple[str, ...]:
        return (str(int(self.force)),)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        (force,) = fields
        return cls(force=force == "1")


class Scale(Message):
    """Observer to master: have this number of workers run, from 1 to MOST_WORKERS."""

    __slots__ = ("workers",)

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def fields(self) -> tuple[str, ...]:
        return (str(self.workers),)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        (workers,) = fields
        number = int(workers)
        if not 1 <= number <= MOST_WORKERS:
            raise ValueError("an impossible number of workers")
        return cls(number)


class Restart(Message):
    """Observer to master: restart, as SIGHUP does."""

    __slots__ = ()


class Stop(Message):
    """Observer to master: stop gracefully, as SIGTERM does."""

    __slots__ = ()


class Trace(Message):
    """Observer to master, and master to workers: trace the requests that match one of `filters`, a text that only
    workers read (`serving.access_log.trace_filter`); "": trace nothing.

    A worker gets the descriptor of a socket with it, to which it writes the requests.
    """

    __slots__ = ("filters",)

    def __init__(self, filters: str) -> None:
        self.filters = filters

    def fields(self) -> tuple[str, ...]:
        return (self.filters,)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        (filters,) = fields
        if len(filters) > LONGEST_FILTERS:
            raise ValueError("filters that are too long")
        return cls(filters)


class TraceSource(Message):
    """Master to observer, with a descriptor: the end of the socket from which a worker's requests are read."""

    __slots__ = ()


class _TextMessage(Message):
    """Base of the answers: a text, or IN_PARTS."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def fields(self) -> tuple[str, ...]:
        return (self.text,)

    @classmethod
    def parse(cls, fields: Sequence[str]) -> Message:
        (text,) = fields
        return cls(text)


class StatusReport(_TextMessage):
    """Master to observer: what only the master has, as a literal (`supervision.report`)."""

    __slots__ = ()


class StacksReport(_TextMessage):
    """Master to observer: the stacks of all processes, as a literal (`master.stack_reports`)."""

    __slots__ = ()


OBSERVER_QUERIES = (Alive, Leaving, StatusQuery, StacksQuery, Trace, Scale, Restart, Stop)
OBSERVER_ANSWERS = (StatusReport, StacksReport, TraceSource)
