"""starman.serving.resource_shortage: the response to the client, and how many lines the error log gets."""

from __future__ import annotations

import errno
import re
import threading

import pytest

from starman.errors import ProtocolError
from starman.proto.events import RequestHead
from starman.serving.resource_shortage import PERIOD, ShortageLog, refuse_body

Capture = pytest.CaptureFixture[str]


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def lines(capfd: Capture) -> list[str]:
    return [re.sub(r"^(\[.*?\] ){2}", "", line) for line in capfd.readouterr().err.splitlines()]


def refused(error: Exception, method: bytes = b"PUT") -> ProtocolError:
    head = RequestHead()
    head.method = method
    return refuse_body(error, head, ShortageLog())


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM])
def test_what_passes_is_a_503(code: int) -> None:
    refusal = refused(OSError(code, "no"), b"HEAD")
    assert (refusal.status, refusal.to_head) == (503, True)


def test_a_lack_of_memory_is_a_503() -> None:
    assert refused(MemoryError()).status == 503


@pytest.mark.parametrize("error", [OSError(errno.EIO, "no"), FileNotFoundError(2, ""), OSError("no"), ValueError("no")])
def test_what_does_not_is_a_500(error: Exception) -> None:
    refusal = refused(error)
    assert (refusal.status, refusal.to_head) == (500, False)


def test_one_line_of_each_kind_is_written_and_further_ones_counted(capfd: Capture) -> None:
    clock = Clock()
    shortages = ShortageLog(clock)
    for number in range(3):
        shortages.add("no disk", f"client {number}")
        shortages.add("no descriptor")
    shortages.write_due(clock.now)
    assert lines(capfd) == ["[ERROR] no disk: client 0", "[ERROR] no descriptor"]
    shortages.write_due(clock.now + PERIOD - 1)
    assert lines(capfd) == []
    shortages.write_due(clock.now + PERIOD)
    assert lines(capfd) == [
        "[ERROR] no disk, 2 more times within 10 s; the last: client 2",
        "[ERROR] no descriptor, 2 more times within 10 s",
    ]
    # The shortage goes on: still one line in 10 s. After it has stopped, the next one is logged at once.
    shortages.add("no disk", "client 3")
    shortages.write_due(clock.now + PERIOD + 1)
    assert lines(capfd) == []
    shortages.write_due(clock.now + 2 * PERIOD)
    assert lines(capfd) == ["[ERROR] no disk, 1 more time within 10 s; the last: client 3"]
    shortages.write_due(clock.now + 3 * PERIOD)
    shortages.add("no disk", "client 4")
    shortages.write_due(clock.now + 3 * PERIOD)
    assert lines(capfd) == ["[ERROR] no disk: client 4"]


def test_at_the_end_what_is_missing_is_said(capfd: Capture) -> None:
    shortages = ShortageLog(Clock())
    shortages.add("no disk", "a")
    shortages.add("no disk", "b")
    shortages.close()
    assert lines(capfd) == ["[ERROR] no disk: a", "[ERROR] no disk, 1 more time within 10 s; the last: b"]


def test_any_thread_may_add(capfd: Capture) -> None:
    shortages = ShortageLog(Clock())
    threads = [threading.Thread(target=lambda: [shortages.add("no disk") for _ in range(1000)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    shortages.close()
    assert lines(capfd) == ["[ERROR] no disk", "[ERROR] no disk, 3999 more times within 10 s"]
