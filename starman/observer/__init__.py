"""The observer process: answers the commands `starman-uv status`, `stacks` and others on the control socket.

A process of its own, so that a busy, stuck or stopped service can still be seen, and the master has no clients.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from starman.process.channel import Channel
    from starman.process.worker_spec import WorkerSpec


def run_observer(channel: Channel, spec: WorkerSpec, fds: Sequence[int]) -> NoReturn:
    """Run the observer in a fresh fork. `fds`: the descriptors of the control socket and of the scoreboard. The master
    imports this function and never calls it."""
    from starman.observer.process import run

    run(channel, spec, fds)
