"""What the kernel tells of a process in /proc/PID/stat (Linux). Imported by the master."""

from __future__ import annotations

# proc(5) counts the fields from 1, and these begin behind the second.
FIRST_FIELD = 3


def read_fields(pid: int | str) -> list[bytes]:
    """The fields of a process, "self" for this one, from field 3 on (FIRST_FIELD): the state, the parent and so on. Raises
    OSError where there is no such process, or no /proc."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        # The second field, the short name in parentheses, may hold spaces and parentheses: the others are behind the last ")".
        return file.read().rpartition(b")")[2].split()
