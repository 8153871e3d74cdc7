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
from starman.observer.admin_server import AdminServer
from starman.observer.control_server import ControlServer
from starman.observer.master_link import MasterLink
from starman.observer.metrics.listen_backlog import note_listeners
from starman.observer.metrics.reader import MetricsReader
from starman.observer.statsd_sender import StatsdSender
from starman.observer.status import StatusReader
from starman.process.forking import install_handlers
from starman.process.host.listeners import Listener
from starman.process.messages import Failed, Loaded
from starman.process.observer_messages import Alive, Leaving
from starman.process.supervision.observer import ALIVE_SECONDS
from starman.process.worker.loop_errors import report

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from starman.observer.metrics.listen_backlog import Watched
    from starman.process.channel import Channel
    from starman.process.worker_spec import WorkerSpec

# How long (seconds) the process stays without a connection.
IDLE_SECONDS = 60.0


def run(channel: Channel, spec: WorkerSpec, fds: Sequence[int]) -> NoReturn:
    """Run the observer. Call it in a fresh fork with all signals blocked; it never returns. Main thread only.

    `fds`: the descriptors of the listeners of the admin HTTP, of the control socket and of the scoreboard, each if
    there is one.
    """
    status = 1
    try:
        channel.send_spawned()
        # A stop signal to the whole process group does not end it: it also answers while the server stops.
        install_handlers(stop_ends=False)
        spec.set_title("observer")
        watched = note_listeners(spec.listeners)
        for listener in spec.listeners:
            listener.close()
        asyncio.run(Observer(channel, spec, fds, watched).run())
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

    __slots__ = ("_admin", "_channel", "_control", "_metrics", "_server", "_spec", "_stopped", "master", "status")

    def __init__(self, channel: Channel, spec: WorkerSpec, fds: Sequence[int], watched: Sequence[Watched]) -> None:
        sockets = [fd for fd in fds if stat.S_ISSOCK(os.fstat(fd).st_mode)]
        boards = [fd for fd in fds if fd not in sockets]
        self._channel = channel
        self._spec = spec
        self._admin = [Listener(socket.socket(fileno=fd), given.address) for fd, given in zip(sockets, spec.admin, strict=False)]
        del sockets[: len(spec.admin)]
        self._control = socket.socket(fileno=sockets[0]) if sockets else None
        board = spec.scoreboard.map_all(boards[0] if boards else -1)
        for fd in boards:
            os.close(fd)
        self.master = MasterLink(channel)
        self.status = StatusReader(self.master, board, spec)
        self._metrics = MetricsReader(board, watched)
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
        async with asyncio.TaskGroup() as tasks:
            admin = None
            if self._admin:
                admin = AdminServer(self._spec, self._admin, self.master, self.status, self._metrics)
                tasks.create_task(admin.run())
            background = []
            if self._spec.settings.statsd_host is not None:
                statsd = StatsdSender(self._spec.settings, self.master, self._metrics)
                background.append(tasks.create_task(statsd.run()))
            self._channel.send(Loaded())
            background.append(tasks.create_task(self._beat()))
            await self._stopped.wait()
            for task in background:
                task.cancel()
            if admin is not None:
                admin.stop()
        if self._server is not None:
            self._server.close()

    async def _beat(self) -> None:
        """Report to the master that the loop runs. End this process when it is idle."""
        while True:
            await asyncio.sleep(ALIVE_SECONDS)
            if not self._spec.settings.is_observed and self._server is not None and self._server.idle_seconds() >= IDLE_SECONDS:
                # The master watches the control socket again, and a client that comes now waits there.
                self._channel.send(Leaving())
                self._stopped.set()
                return
            self._channel.send(Alive())

    def _read_channel(self) -> None:
        if not self.master.read():
            self._stopped.set()
