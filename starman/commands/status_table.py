"""The status document as text: a few lines about the server, and a table of its workers. Pure."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

HEADS = ("WORKER", "PID", "STATE", "AGE", "BUSY", "CONNECTIONS", "REQUESTS", "MEMORY", "CPU", "LOOP")
# A loop writes a sign of life twice a second. It is worth a remark when it has been silent for longer (seconds).
SILENT_SECONDS = 2.0
# How many calls of the stack of a slow request are shown, the innermost ones.
MOST_CALLS = 6


def status_text(status: dict[str, Any]) -> str:
    """Everything at a glance: the server, its workers, and the requests that run."""
    lines = [
        *server_lines(status),
        *table(HEADS, [worker_row(worker, status["threads"]) for worker in status["workers"]]),
    ]
    requests = [(request["seconds"], worker, request) for worker in status["workers"] for request in worker["requests"]]
    if requests:
        lines += ["", "running requests, the oldest first:"]
        requests.sort(key=lambda each: -each[0])
        rows = [
            (seconds_text(seconds), f"worker {worker['number']}", f"thread {request['thread']}", request["request"])
            for seconds, worker, request in requests
        ]
        lines += table((), rows)
    for title, key, text in (("lost workers", "lost_workers", "how"), ("replaced workers", "replacements", "reason")):
        if status[key]:
            lines += ["", f"{title}, the last one first:"]
            lines += [
                f"{seconds_text(entry['seconds_ago'])} ago  worker {entry['number']} ({_text(entry['pid'])}) "
                f"{'' if text == 'how' else 'was replaced: '}{entry[text]}"
                for entry in reversed(status[key])
            ]
    failed = status["failed_restart"]
    if failed is not None:
        lines += ["", f"{seconds_text(failed['seconds_ago'])} ago  a restart was given up: {failed['reason']}"]
    if status["slow_requests"]:
        lines += ["", "slow requests, the last one first:"]
        for entry in reversed(status["slow_requests"]):
            lines += _slow_request(entry)
    return "\n".join(lines)


def server_lines(status: dict[str, Any]) -> list[str]:
    """What concerns the whole server, and an empty line."""
    restarting = ", restarting" if status["restarting"] else ""
    return [
        f"starman {status['version']} on Python {status['python']}, master {status['pid']}{_up(status['age_seconds'])}",
        f"{status['name']} on {', '.join(status['listeners'])}",
        f"{status['phase']}{restarting}: {status['workers_ready']} of {status['workers_wanted']} workers ready, "
        f"{_threads(status['threads'])}",
        "",
    ]


def _up(seconds: float | None) -> str:
    """How long the server has run; "" if that cannot be read, without /proc."""
    return "" if seconds is None else f", up {seconds_text(seconds)}"


def _threads(number: int) -> str:
    if not number:
        return "without threads"
    return "1 thread each" if number == 1 else f"{number} threads each"


def _slow_request(entry: dict[str, Any]) -> list[str]:
    """A slow request, and the innermost calls of its stack."""
    ended = " and timed out" if entry["timed_out"] else ""
    calls = entry["stack"].splitlines()
    left_out = [f"  ... {len(calls) - MOST_CALLS} calls left out (--json has them) ..."] if len(calls) > MOST_CALLS else []
    return [
        f"{seconds_text(entry['seconds_ago'])} ago  worker {entry['number']} ({_text(entry['pid'])}) {entry['request']} "
        f"had run for {seconds_text(entry['seconds'])}{ended}",
        *left_out,
        *(f"  {call}" for call in calls[-MOST_CALLS:]),
    ]


def worker_row(worker: dict[str, Any], threads: int) -> tuple[str, ...]:
    """The cells of a worker, below HEADS. `threads`: how many each worker has; 0: none."""
    memory = worker["memory"]
    silent = worker["loop_silent_seconds"]
    loop = "" if silent is None else f"silent for {seconds_text(silent)}" if silent >= SILENT_SECONDS else "alive"
    return (
        str(worker["number"]),
        _text(worker["pid"]),
        worker["state"] + (", to be replaced" if worker["is_replaced"] else ""),
        seconds_text(worker["age_seconds"]),
        "" if worker["threads_busy"] is None else f"{worker['threads_busy']}/{threads or 1}",
        _text(worker["connections"]),
        _text(worker["requests_finished"]),
        bytes_text(memory["private"] if memory["private"] is not None else memory["rss"]),
        seconds_text(worker["cpu_seconds"]),
        loop if worker["kernel_state"] not in ("stopped", "stopped by a debugger") else worker["kernel_state"],
    )


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a table with aligned columns, below `heads`; (): without heads."""
    all_rows = [heads, *rows] if heads else rows
    widths = [max(len(row[column]) for row in all_rows) for column in range(len(all_rows[0]))] if all_rows else []
    return ["  ".join(f"{cell:{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in all_rows]


def seconds_text(seconds: float | None) -> str:
    """A duration in one or two units: "0.4 s", "12 s", "3 min 20 s", "2 h 5 min", "3 d 4 h"; "" for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    whole = int(seconds)
    for size, unit, smaller, smaller_unit in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {rest} {smaller_unit}" if rest else "")
    return f"{whole} s"


def bytes_text(size: int | None) -> str:
    """A size: "512 kB", "12.3 MB"; "" for None. 1 kB is 1000 bytes."""
    if size is None:
        return ""
    for factor, unit in ((10**9, "GB"), (10**6, "MB")):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size / 1000:.0f} kB"


def _text(value: object) -> str:
    return "" if value is None else str(value)
