"""The table of settings for running requests, which `starman.config.options` includes. The master imports this
module."""

from __future__ import annotations

from starman.config import kinds
from starman.config.option import option


class RequestOptions:
    """Declares the settings for requests that run or wait."""

    __slots__ = ()

    busy_warning: float = option(
        5,
        "Requests",
        kinds.seconds(zero=True).with_zero("never"),
        "Log a warning when all threads of a worker are busy and a request has waited this long for one (seconds). It names "
        "the requests in the threads, and the line of the application that each is on.",
    )
    slow_request: float = option(
        30,
        "Requests",
        kinds.seconds(zero=True).with_zero("never"),
        "Log a warning when the application has worked on a request for this long (seconds), once, with the stack of its "
        "thread. Time spent waiting for the client does not count.",
    )
    request_timeout: float = option(
        0,
        "Requests",
        kinds.seconds(zero=True).with_zero("never"),
        "Answer 504, or cut the response, when the application has worked on a request for this long (seconds), and log the "
        "stack of its thread. A new thread replaces that thread. Time spent waiting for the client does not count.",
    )
    request_interrupt: bool = option(
        False,
        "Requests",
        kinds.FLAG,
        "Raise starman.RequestTimeout in the thread of a request that has timed out, so that the Python code of the "
        "application ends. This may interrupt the application anywhere, and leave locks taken and data half written.",
    )
    lost_threads: int = option(
        0,
        "Requests",
        kinds.whole(0, unit="threads").with_zero("as many as --threads"),
        "Replace a worker when this many of its threads are still busy with requests that have timed out.",
    )
    queue_timeout: float = option(
        0,
        "Requests",
        kinds.seconds(zero=True).with_zero("never"),
        "Refuse a request that has waited this long for a thread (seconds) with 503 and Retry-After, without calling the "
        "application. With start in --forwarded, the time in the proxy counts too.",
    )
    max_queue: int = option(
        0,
        "Requests",
        kinds.whole(0, unit="requests").with_zero("no limit"),
        "Refuse a request at once, with 503 and Retry-After, if this many requests of its worker already wait for a thread.",
    )
