"""What the kernel reports about a process in /proc/PID/stat (Linux). Imported by the master."""

from __future__ import annotations

# proc(5) counts the fields from 1. `read_fields` returns those from the third on.
FIRST_FIELD = 3


def read_fields(pid: int | str) -> list[bytes]:
    """The fields of a process ("self": this one) from field 3 on (FIRST_FIELD): the state, the parent and so on.
    Raises OSError without such a process, or without /proc."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The second field, the short name in parentheses, may contain spaces and parentheses. The rest follows the
        # last ")".
        return file.read().rpartition(b")")[2].split()
