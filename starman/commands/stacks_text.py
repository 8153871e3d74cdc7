"""The stacks document as text: each thread with its request and its stack, the innermost call first. Pure."""

from __future__ import annotations

from starman.commands.status_table import SILENT_SECONDS, seconds_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def stacks_text(processes: list[dict[str, Any]]) -> str:
    """All processes, separated by empty lines."""
    return "\n\n".join("\n".join(_process_lines(process)) for process in processes)


def _process_lines(process: dict[str, Any]) -> list[str]:
    silent = process["loop_silent_seconds"]
    loop = f": its event loop is silent for {seconds_text(silent)}" if silent is not None and silent >= SILENT_SECONDS else ""
    if not process["answered"]:
        return _unanswered_lines(process, loop)
    lines = [f"{process['title']}{loop}"]
    for thread in process["threads"]:
        request = thread["request"]
        what = f": {request['request']} (for {seconds_text(request['seconds'])})" if request else ""
        lines.append(f"  {thread['name']}{what}")
        lines += [f"    {frame['file']}:{frame['line']} in {frame['function']}" for frame in thread["frames"]]
    lines += [f"  {_request_line(request)}" for request in process["requests"]]
    if process["waiting"]:
        lines.append(f"  waiting for work: {', '.join(process['waiting'])}")
    return lines


def _unanswered_lines(process: dict[str, Any], loop: str) -> list[str]:
    stopped = all(thread["kernel_state"].startswith("stopped") for thread in process["kernel_threads"])
    why = "the process is stopped" if stopped else "its main thread runs no Python code now"
    lines = [f"{process['title']} has not written its stacks: {why}{loop.replace(':', ',')}"]
    lines += [f"  {_request_line(request)}" for request in process["requests"]]
    for thread in process["kernel_threads"]:
        place = f" in {thread['kernel_function']}" if thread["kernel_function"] else ""
        lines.append(f"  kernel: thread {thread['tid']} ({thread['name']}) is {thread['kernel_state']}{place}")
    if not stopped:
        lines.append("  --force also interrupts native code, which may crash this process")
    return lines


def _request_line(request: dict[str, Any]) -> str:
    return f"thread {request['thread']}: {request['request']} (for {seconds_text(request['seconds'])})"
