"""What tests observe of a running server from outside: memory, descriptors, pending signals, the Server field."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

from tests.functional.support.harness import Server, wait_until


def all_say(server: Server, field: str) -> bool:
    """Whether every worker sends this Server field, once the old ones, which still accept for a moment, are gone."""

    def same() -> bool:
        found = set()
        for _ in range(6):
            with server.client() as client:
                found.add(client.get("/").get("Server"))
        return found == {field}

    return wait_until(same, 30)


def rss(pid: int) -> int:
    """What a process has for itself alone, in KiB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(found) for found in re.findall(r"Private_\w+: +(\d+)", text))


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def kinds(names: list[str]) -> Counter[str]:
    """How many descriptors of each kind there are: sockets and pipes have numbers."""
    return Counter(re.sub(r"\d+", "N", name) for name in names)


def pending(pid: int, signum: int) -> bool:
    """Whether a signal is still pending in a process."""
    found = re.search(r"ShdPnd:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return bool(int(found[1], 16) >> (signum - 1) & 1)
