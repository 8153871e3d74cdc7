"""Runs the observer process: its event loop, its signs of life, and its end.

Ends when the master closes the channel, or when nothing has been asked of it for IDLE_SECONDS.
"""

from __future__ import annotations

import asyncio
import os
import socket
import stat

from starman import log
from starman.log.tracebacks import exception_line, format_exception
from starman.observer.control_server import ControlServer
from starman.observer.master_link import MasterLink
from starman.observer.status import StatusReader
from starman.process.forking import install_handlers
from starman.process.messages import Failed, Loaded
from starman.process.observer_messages import Alive, Leaving
from starman.process.supervision.observer import ALIVE_SECONDS
from starman.process.worker.loop_errors import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from starman.process.channel import Channel
    from starman.process.worker_spec import WorkerSpec

# How long (seconds) the process stays without a connection.
IDLE_SECONDS = 60.0


def run(channel: Channel, spec: WorkerSpec, fds: Sequence[int]) -> NoReturn:
    """Run the observer. Call it in a fresh fork with all signals blocked; it never returns. Main thread only.

    `fds`: the descriptors of the control socket and of the scoreboard, each if there is one.
    """
    status = 1
    try:
        channel.send_spawned()
        # A stop signal to the whole process group does not end it: it also answers while the server stops.
        install_handlers(stop_ends=False)
        spec.set_title("observer")
        for listener in spec.listeners:
            listener.close()
        asyncio.run(Observer(channel, spec, fds).run())
        status = 0
    except BaseException as error:
        channel.send(Failed(exception_line(error), format_exception(error)))
    finally:
        log.finish()
        os._exit(status)


class Observer:
    """The parts of the observer. All methods run in the loop.

    master: the link to the master. status: makes the status document.
    """

    __slots__ = ("_channel", "_control", "_server", "_stopped", "master", "status")

    def __init__(self, channel: Channel, spec: WorkerSpec, fds: Sequence[int]) -> None:
        sockets = [fd for fd in fds if stat.S_ISSOCK(os.fstat(fd).st_mode)]
        boards = [fd for fd in fds if fd not in sockets]
        self._channel = channel
        self._control = socket.socket(fileno=sockets[0]) if sockets else None
        board = spec.scoreboard.map_all(boards[0] if boards else -1)
        for fd in boards:
            os.close(fd)
        self.master = MasterLink(channel)
        self.status = StatusReader(self.master, board, spec)
        self._stopped = asyncio.Event()
        self._server: ControlServer | None = None

    async def run(self) -> None:
        """Serve until the master ends, or until the observer has been idle for long."""
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(report)
        loop.add_reader(self._channel.fileno(), self._read_channel)
        if self._control is not None:
            self._server = ControlServer(self._control, self.master, self.status)
            self._server.start()
        self._channel.send(Loaded())
        beating = loop.create_task(self._beat())
        await self._stopped.wait()
        beating.cancel()
        if self._server is not None:
            self._server.close()

    async def _beat(self) -> None:
        """Report to the master that the loop runs. End this process when it is idle."""
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            if self._server is not None and self._server.idle_seconds() >= IDLE_SECONDS:
                # The master watches the control socket again, and a client that comes now waits there.
                self._channel.send(Leaving())
                self._stopped.set()
                return
            self._channel.send(Alive())

    def _read_channel(self) -> None:
        if not self.master.read():
            self._stopped.set()
