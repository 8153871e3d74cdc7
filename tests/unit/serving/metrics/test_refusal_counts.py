"""starman.serving.metrics.refusal_counts: each reason that is declared has code that counts it, and each status that
the server answers by itself has a reason."""

from __future__ import annotations

import ast
import threading
from collections import Counter
from pathlib import Path

import starman
from starman.observer.metrics.metric_table import REASON_OF_COUNTER, REASON_OF_STATUS
from starman.process.metrics_memory import COUNTERS, REFUSED
from starman.serving.metrics.refusal_counts import PROXY_FAILURES, TLS_FAILURES, RefusalCounts


def statuses_in_the_code() -> set[int]:
    """The status codes of all `ProtocolError(STATUS, ...)` of the package."""
    found = set()
    for path in Path(starman.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "ProtocolError":
                status = node.args[0]
                assert isinstance(status, ast.Constant), f"{path}:{node.lineno}: the status is not a number"
                assert isinstance(status.value, int)
                found.add(status.value)
    return found


def test_the_statuses_of_the_code_are_those_of_the_memory_and_of_the_metrics() -> None:
    assert statuses_in_the_code() == set(REFUSED) == set(REASON_OF_STATUS)


def test_the_counters_of_refusals_are_in_the_memory() -> None:
    assert {TLS_FAILURES, PROXY_FAILURES} < set(REASON_OF_COUNTER) < set(COUNTERS)


def test_threads_and_the_loop_note_and_none_is_lost() -> None:
    counts = RefusalCounts()

    def work() -> None:
        for _ in range(2000):
            counts.note(503)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    counts.note(400)
    while any(thread.is_alive() for thread in threads):
        assert counts.answered()[400] == 1
    assert counts.answered() == counts.answered() == Counter({503: 6000, 400: 1})
