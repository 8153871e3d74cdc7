"""A thousand requests, one in twenty of which hangs for ever: the others do not notice, and no request is lost."""

from __future__ import annotations

import itertools
import statistics
import threading
import time

from tests.functional.support.harness import Server

ARGUMENTS = ("--workers", "2", "--threads", "4", "--request-timeout", "1")
# A busy machine may add this (seconds) to any request.
SLACK = 0.25


def p99_of_others(one_in: int) -> tuple[float, int, Server]:
    """The p99 (seconds) of 1,000 requests without the one in so many that hangs (0: none does), how many of these
    were answered with 504, and the server, which has ended."""
    times: list[float] = []
    answers: list[int] = []
    numbers = itertools.count(1)

    def ask_on(server: Server) -> None:
        client = server.client(60)
        while (number := next(numbers)) <= 1000:
            hangs = bool(one_in) and number % one_in == 0
            began = time.monotonic()
            answer = client.get("/lock" if hangs else "/sleep?seconds=0.02")
            assert answer.status == (504 if hangs else 200)
            answers.append(answer.status)
            if not hangs:
                times.append(time.monotonic() - began)
            if not answer.persistent:
                client.close()
                client = server.client(60)
        client.close()

    with Server("tests.functional.support.hanging:app", *ARGUMENTS) as server:
        threads = [threading.Thread(target=ask_on, args=(server,)) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert len(answers) == 1000
        assert server.stop() == 0
    return statistics.quantiles(times, n=100)[98], answers.count(504), server


def test_the_others_are_as_fast_as_without_them() -> None:
    usual, timed_out, _ = p99_of_others(0)
    assert timed_out == 0
    p99, timed_out, server = p99_of_others(20)
    assert timed_out == 50
    assert p99 <= 2 * usual + SLACK
    assert server.log.count("threads are busy with requests that have timed out (lost_threads)") >= 5
