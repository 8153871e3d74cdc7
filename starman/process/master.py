"""The master: supervises. A plain blocking loop, without asyncio, threads or HTTP; the application never runs in it.

What to do, the roster decides; how, is written here. Never imports the serving side, nor anything large: it stays below 7 MB.
"""

from __future__ import annotations

import gc
import os
import signal
import time

from starman import log
from starman.errors import StartError
from starman.process import actions
from starman.process.blueprint import Blueprint, import_service
from starman.process.door import SignalDoor
from starman.process.forking import fork
from starman.process.limits import raise_descriptor_limit, release_memory, warn_of_threads
from starman.process.links import Link, Links
from starman.process.messages import Draining, Failed, Loaded, Ready, Role, Spawn, Spawned, Spent
from starman.process.orders import Orders, say
from starman.process.outlook import Observers
from starman.process.reaper import Reaper
from starman.process.roster import Roster
from starman.process.scoreboard import Scoreboard
from starman.process.sharing import immortalize
from starman.process.vigil import Vigil
from starman.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from starman.process.channel import Channel
    from starman.process.listeners import Listener
    from starman.process.worker import MakeService
    from starman.settings import Settings
    from starman.wsgi.call import Application

# Hazard 6: after the end of file of a process's channel, its exit status may take this long (seconds) to follow; then it
# counts as dead without.
STATUS_SLACK = 0.25
# After an error in the loop itself, how long to wait (seconds) before the next round.
_ERROR_PAUSE = 1.0


class Master:
    """One server, from its first fork to its last worker's end."""

    __slots__ = (
        "_blueprint",
        "_deaths",
        "_door",
        "_failure",
        "_links",
        "_observers",
        "_orders",
        "_performers",
        "_reaper",
        "_roster",
        "_vigil",
    )

    def __init__(
        self,
        settings: Settings,
        listeners: Sequence[Listener],
        load_application: Callable[[], Application],
        application: Application | None = None,
        name: str = "",
        import_service: Callable[[], MakeService] = import_service,
    ) -> None:
        """Serve on `listeners`, which the master closes.

        load_application: imports the application, in a mold or a worker; raises StarmanError.
        application: the callable, when the calling program has it already; `load_application` is not called then.
        name: what is served, for the titles of the processes ("app:app").
        import_service: imports what a worker needs, in a mold, and returns the class of the service.
        """
        self._blueprint = Blueprint(settings, listeners, load_application, application, name, import_service)
        self._roster = Roster(
            settings.workers,
            preload=settings.preload_app and application is None,
            boot_timeout=settings.boot_timeout,
            graceful_timeout=settings.graceful_timeout,
            worker_timeout=settings.worker_timeout,
        )
        # Deaths that were found while an order was carried out, for the next round: number, and how.
        self._deaths: list[tuple[int, str]] = []
        self._failure: actions.GiveUp | None = None
        self._performers: dict[type[actions.Action], Callable[[Any], None]] = {
            actions.ForkMold: self._fork_mold,
            actions.SpawnMold: self._spawn_mold,
            actions.Spawn: self._spawn,
            actions.Announce: self._announce,
            actions.Say: say,
            actions.CloseListeners: self._close_listeners,
            actions.GiveUp: self._give_up,
        }

    def run(self, *, embedded: bool = False, observers: Observers | None = None) -> int:
        """Serve until a signal ends it. Returns the exit status: 0, or 1 when the master had to cut workers short.

        embedded: whether the process is some other program's, as it is when that program gave a callable: its children are not
        reaped, nor its title changed. observers: they are shown how the server is, in each round. Raises StartError when the
        first start fails. Main thread only, for it takes the signals over; they are given back at the end.
        """
        self._observers = observers or Observers()
        if embedded or self._blueprint.application is not None:
            embedded = True
            warn_of_threads()
        else:
            self._blueprint.title("master")
            # Now, not in the molds: they would each have copies of these pages.
            immortalize()
        raise_descriptor_limit()
        self._reaper = Reaper(everything=not embedded)
        self._door = SignalDoor()
        self._links = Links(self._door)
        self._blueprint.scoreboard = Scoreboard.create()
        self._vigil = Vigil(self._blueprint.scoreboard, self._links)
        self._orders = orders = Orders(self._links, self._vigil, self._died, adopts=self._reaper.adopts)
        self._performers |= {
            actions.Drain: orders.drain,
            actions.Cut: orders.cut,
            actions.AskStacks: orders.ask_stacks,
            actions.RetireMold: orders.retire_mold,
            actions.Forget: orders.forget,
        }
        try:
            status = self._supervise()
        finally:
            self._close()
        if self._failure is not None:
            raise StartError(self._failure.reason, self._failure.details)
        return status

    def _supervise(self) -> int:
        while True:
            try:
                self._reap()
                self._take_signals()
                status = self._act()
                if status is not None:
                    return status
                self._sleep()
            except Exception:
                import traceback

                # A fault of ours must not take the workers down, and must not spin.
                log.error(f"the master failed, and goes on\n{traceback.format_exc()}")
                time.sleep(_ERROR_PAUSE)

    def _reap(self) -> None:
        """Hazard 6: dead is who was reaped, or whose channel is at its end, whichever comes first."""
        now = time.monotonic()
        for pid, how in self._reaper.reap(now):
            link = self._links.find_pid(pid)
            if link is not None:
                # Its last words may still be in the channel.
                self._listen(link)
                self._bury(link, how)
        for link in self._links:
            if link.ended_at is not None and (not self._reaper.adopts or now - link.ended_at >= STATUS_SLACK):
                if self._reaper.adopts:
                    # It lives, but without its channel nobody can look after it.
                    self._orders.kill(link.number, signal.SIGKILL)
                self._bury(link, "closed its channel" if self._reaper.adopts else "ended")
        deaths, self._deaths = self._deaths, []
        for number, how in deaths:
            link = self._links.find(number)
            if link is not None:
                self._bury(link, how)
            else:
                self._roster.on_gone(number, how, now)

    def _take_signals(self) -> None:
        for signum in self._door.take():
            now = time.monotonic()
            if signum == signal.SIGHUP:
                self._restart()
            elif signum == signal.SIGTTIN:
                self._roster.grow()
            elif signum == signal.SIGTTOU:
                self._roster.shrink(now)
            else:
                self._roster.stop(now)

    def _restart(self) -> None:
        if self._blueprint.application is not None:
            log.info("restarting the workers; the application was given as a callable, so its code stays as it is")
        else:
            log.info("restarting the workers with fresh code")
        self._roster.restart()

    def _act(self) -> int | None:
        """Carry the plan out; the exit status when it is the last one."""
        self._roster.watch.look(self._vigil.beats(), time.monotonic())
        for action in self._roster.plan(time.monotonic()):
            if isinstance(action, actions.Exit):
                return action.status
            self._performers[type(action)](action)
        return None

    def _sleep(self) -> None:
        """Until something happens or the roster wants to be asked; then hear what there is."""
        now = time.monotonic()
        self._observers.see(self._roster.outlook(), now)
        instants = [link.ended_at + STATUS_SLACK for link in self._links if link.ended_at is not None]
        instants += self._observers.instants()
        instant = self._roster.next_instant(now)
        if instant is not None:
            instants.append(instant)
        timeout = 0.0 if self._deaths else max(0.0, min(instants) - now) if instants else None
        for link in self._links.wait(timeout):
            self._listen(link)

    def _listen(self, link: Link) -> None:
        """Tell the roster what a member has said."""
        for message in self._links.hear(link):
            now = time.monotonic()
            if isinstance(message, Spawned):
                self._born(link, message.pid)
            elif isinstance(message, Ready | Loaded):
                self._roster.on_ready(link.number, now)
            elif isinstance(message, Spent):
                self._roster.on_spent(link.number, message.reason)
            elif isinstance(message, Draining):
                self._roster.on_draining(link.number, now, message.reason)
            elif isinstance(message, Failed):
                self._roster.on_failed(link.number, message.message, message.details, now)

    def _born(self, link: Link, pid: int) -> None:
        if link.pid is None:
            link.pid = pid
            self._reaper.watch(pid)
            self._roster.on_spawned(link.number, pid)

    def _died(self, number: int, how: str) -> None:
        self._deaths.append((number, how))

    def _bury(self, link: Link, how: str) -> None:
        now = time.monotonic()
        how += self._vigil.serving(link, now)
        self._links.remove(link)
        self._roster.on_gone(link.number, how, now)

    # How each action is performed.

    def _fork_mold(self, action: actions.ForkMold) -> None:
        channel = self._open(action.member)
        if channel is None:
            return
        # The mold's collector then leaves the headers of what it inherits alone, and the pages stay shared.
        gc.freeze()
        try:
            pid = fork()
        except OSError as error:
            gc.unfreeze()
            channel.close()
            self._died(action.member, f"could not be forked ({error.strerror})")
            return
        if pid == 0:
            self._become_mold(channel)
        gc.unfreeze()
        channel.close()
        link = self._links.find(action.member)
        assert link is not None
        self._born(link, pid)

    def _become_mold(self, channel: Channel) -> NoReturn:
        """In the child."""
        try:
            self._links.abandon()
            self._observers.abandon()
            self._blueprint.scoreboard.abandon()
            # What the calling program registered is to happen once, at its own end, not at each worker's.
            import atexit

            from starman.process.mold import run_mold

            atexit._clear()
            run_mold(channel, self._blueprint, preload=False)
        except BaseException:
            import traceback

            log.error(f"the mold failed\n{traceback.format_exc()}")
        finally:
            os._exit(1)

    def _spawn_mold(self, action: actions.SpawnMold) -> None:
        self._ask(action.origin, action.member, Spawn(Role.MOLD, 0, action.generation))

    def _spawn(self, action: actions.Spawn) -> None:
        self._ask(action.mold, action.member, Spawn(Role.WORKER, action.slot, action.generation))

    def _ask(self, mold: int, number: int, order: Spawn) -> None:
        """Have a mold fork the member `number`, whose channel goes with the order."""
        channel = self._open(number)
        if channel is None:
            return
        if order.role is Role.WORKER:
            order.place = self._vigil.assign(number)
        link = self._links.find(mold)
        asked = link is not None and link.channel.send(order, [channel.fileno()])
        channel.close()
        if not asked:
            self._died(number, "could not be forked (its mold does not answer)")

    def _open(self, number: int) -> Channel | None:
        """The member's end of a new link; None, and the member is dead, when descriptors run out."""
        try:
            return self._links.open(number)
        except OSError as error:
            self._died(number, f"could not be forked ({error.strerror})")
            return None

    def _announce(self, action: actions.Announce) -> None:
        threads = self._blueprint.settings.threads
        urls = ", ".join(listener.url for listener in self._blueprint.listeners)
        log.info(
            f"starman {VERSION} ready: {_count(action.workers, 'worker')} × {_count(threads, 'thread')} on {urls}"  # noqa: RUF001
        )
        release_memory()

    def _close_listeners(self, action: actions.CloseListeners) -> None:
        for listener in self._blueprint.listeners:
            listener.close()

    def _give_up(self, action: actions.GiveUp) -> None:
        self._failure = action

    def _close(self) -> None:
        """Leave nothing behind in the calling program."""
        self._observers.close()
        self._links.close()
        self._door.close()
        self._blueprint.scoreboard.close()
        self._reaper.close()
        for listener in self._blueprint.listeners:
            listener.close()


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
