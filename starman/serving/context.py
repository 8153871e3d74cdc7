"""What all connections of a worker share: the application, the executor, the limits, budgets and logs."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote_to_bytes

from starman.config.kinds import AUTO
from starman.errors import ProtocolError
from starman.proto.events import Limits, RequestHead
from starman.proto.fields import FieldSplitter
from starman.proto.response import refusal
from starman.serving.access_log.opening import open_access_log
from starman.serving.connections.clients import Clients
from starman.serving.dates import DateLinesCache
from starman.serving.metrics.refusal_counts import RefusalCounts
from starman.serving.refusallog import RefusalLog
from starman.serving.resource_shortage import ShortageLog
from starman.serving.sending.response_memory import ResponseMemory
from starman.serving.sending.spool import SpoolLimits
from starman.version import VERSION
from starman.wsgi.body_memory import BodyMemory
from starman.wsgi.forwarded import Forwarding
from starman.wsgi.spool_space import SpoolSpace

if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.settings import Settings
    from starman.serving.access_log.request_log import RequestLog
    from starman.serving.executors.executor import Executor
    from starman.serving.executors.queued_request import QueuedRequest
    from starman.serving.load_shedding import LoadShedding
    from starman.serving.sending.writer import Writer
    from starman.wsgi.call import Application

# How long (seconds) a doomed process waits for its drain before it goes on as before.
SPARED_SECONDS: Final = 2.0

SOFTWARE: Final = f"starman/{VERSION}"


class ServiceContext:
    """Made by the loop; threads read it.

    draining: whether connections end after their response. doomed: whether the application has asked for the end of
    this process, or the process cannot accept connections any more. Then the process accepts no connection, not even
    one that waits in the kernel: another process will accept it. The loop or the thread of a request sets it. The loop
    resets it when no drain follows a request of the application (`spare`). doomed_at: when the application first asked
    for the end of this process, monotonic; None: it has not. Set by the thread of a request. opened_log: the
    access log; None: none. access_log: where finished requests go, which is the access log except while they are
    traced. logs_details: whether that needs more of an exchange than the combined format. The loop sets these two, and
    threads read them. lost: the writers of connections that are gone while their request runs. Loop only.
    """

    make_streamed_exchange: Callable[..., QueuedRequest]
    shedding: LoadShedding

    __slots__ = (
        "access_log",
        "application",
        "body_memory",
        "connections",
        "date_lines",
        "doomed",
        "doomed_at",
        "draining",
        "executor",
        "field_splitter",
        "forwarding",
        "handshake_timeout",
        "header_timeout",
        "in_thread",
        "keepalive",
        "keepalive_timeout",
        "limits",
        "logs_details",
        "lost",
        "make_exchange",
        "make_streamed_exchange",
        "max_connections",
        "min_body_rate",
        "min_send_rate",
        "on_harakiri",
        "opened_log",
        "refusal_counts",
        "refusals",
        "request_timeout",
        "shedding",
        "shortages",
        "spool_limits",
        "spool_space",
        "stream_paths",
        "write_timeout",
    )

    def __init__(
        self,
        application: Application,
        settings: Settings,
        executor: Executor,
        make_exchange: Callable[..., QueuedRequest],
        in_thread: Callable[[Callable[[], None], Callable[[Exception | None], None]], None],
        on_harakiri: Callable[[], None] | None = None,
    ) -> None:
        """`make_exchange`: the class of exchange that `executor` runs. The caller sets `make_streamed_exchange`, the
        class for requests whose body is read as it arrives, and `shedding`. `in_thread(job, done)`: `Jobs.start_job`.
        `on_harakiri`: called in the loop to drain this process; None: an application cannot end the process.

        Raises SettingError when the access log cannot be opened."""
        self.application = application
        self.in_thread = in_thread
        self.executor = executor
        self.make_exchange = make_exchange
        self.date_lines = DateLinesCache("" if settings.server_header == "off" else settings.server_header)
        self.opened_log = open_access_log(settings)
        self.access_log: RequestLog | None = self.opened_log
        self.logs_details = self.opened_log is not None and self.opened_log.needs_details
        self.refusals = RefusalLog()
        self.refusal_counts = RefusalCounts()
        self.shortages = ShortageLog()
        self.field_splitter = FieldSplitter()
        self.forwarding = Forwarding(settings)
        self.limits = Limits(
            line_bytes=settings.limit_request_line,
            fields=settings.limit_request_fields,
            field_bytes=settings.limit_request_field_size,
            head_bytes=settings.limit_request_head,
            body_bytes=settings.max_body,
        )
        self.body_memory = BodyMemory(settings.body_buffer, settings.body_memory)
        # Bodies are streamed below these paths, which have no "/" at the end. All paths are below "".
        paths = ("/",) if settings.stream_body else settings.stream_body_path
        self.stream_paths = tuple(path.rstrip("/").encode("utf-8", "surrogateescape") for path in paths)
        self.spool_space = SpoolSpace(None if settings.spool_limit == AUTO else settings.spool_limit)
        self.spool_limits = SpoolLimits(
            settings.response_buffer, settings.response_spool, self.spool_space, ResponseMemory(settings.response_memory)
        )
        self.handshake_timeout = settings.ssl_handshake_timeout
        self.header_timeout = settings.header_timeout
        self.min_body_rate = settings.min_body_rate
        self.min_send_rate = settings.min_send_rate
        self.write_timeout = settings.write_timeout
        self.keepalive_timeout = settings.keepalive_timeout
        self.request_timeout = settings.request_timeout if settings.threads else 0.0
        self.max_connections = settings.max_connections
        self.keepalive = not settings.disable_keepalive and settings.keepalive_timeout > 0
        self.on_harakiri = on_harakiri
        self.doomed = False
        self.doomed_at: float | None = None
        self.draining = False
        self.connections = Clients()
        self.lost: list[Writer] = []

    def harakiri(self) -> None:
        """The application asks for the end of this process. Thread, while it runs the request; may be called again.

        Takes effect before it returns, so before the client has its answer: another process accepts its next
        connection.
        """
        if self.on_harakiri is not None and self.doomed_at is None:
            self.doomed_at = monotonic()
            self.doomed = self.draining = True
            self.executor.post(self.on_harakiri)

    def spare(self, now: float) -> bool:
        """Go on as before if no drain has begun SPARED_SECONDS after the application has asked for the end of the
        process: too many other workers still finish their requests. Returns whether this process has just gone on.
        Loop, before a drain."""
        if not self.doomed or self.doomed_at is None or now - self.doomed_at < SPARED_SECONDS:
            return False
        self.doomed = self.draining = False
        return True

    def streams(self, head: RequestHead) -> bool:
        """Whether the application is to read the body of this request as it arrives. Loop."""
        path = unquote_to_bytes(head.path) if b"%" in head.path else head.path
        return any(not prefix or path == prefix or path.startswith(prefix + b"/") for prefix in self.stream_paths)

    def log_refusal(self, error: ProtocolError, peer: str) -> None:
        """Log in the error log why a message of `peer` is refused. Loop."""
        self.refusals.add(f"refused {peer}: {error.status} {error}")

    def refuse(self, error: ProtocolError, peer: str, *, quietly: bool) -> bytes:
        """The response that refuses a message of `peer`, logged in the error log unless `quietly`. Loop."""
        self.refusal_counts.note(error.status)
        if not quietly:
            self.log_refusal(error, peer)
        if self.access_log is not None:
            self.access_log.add_refusal(peer, error.status)
        return refusal(error.status, str(error), self.date_lines.lines_at(monotonic()), to_head=error.to_head)
