"""`--check`: binds the listeners and loads the application as a start does, without serving, and reports the result.

Nothing listens on the bound sockets, so no client connects meanwhile. The application is loaded in a child.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from starman.config import service_links
from starman.config.addresses import AddressKind, parse_address
from starman.config.option import DEFAULT_SOURCE, OPTIONS
from starman.errors import ListenError, StarmanError, StartError
from starman.process.host.surroundings import warnings_about_surroundings
from starman.standard_streams import print_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from starman.config.addresses import Address
    from starman.config.settings import Settings
    from starman.process.host.inherited import InheritedSockets
    from starman.process.host.listeners import Listener
    from starman.process.master.stack_pipe import StackReader
    from starman.wsgi.call import Application

INTERRUPTED = 130  # as a shell reports a command that SIGINT ended: 128 + 2
# How often (seconds) the status of the child is checked, and how long it may take to write its stacks.
_LOOK_SECONDS = 0.02
_STACKS_SECONDS = 1.5


def check(settings: Settings, *, binds: bool = True, load_by: Callable[[Settings], Application] | None = None) -> int:
    """Bind, load and warm up in a child, report on standard output, and return 0; or report the error, and return its
    status.

    binds: whether to bind the listeners. load_by: loads the application in place of `server.load`.

    The application is loaded in a child, because it may start threads that never end, end the process, or hang. After
    boot_timeout the child writes the stacks of its threads to standard error and is killed. Main thread only.
    """
    from starman.process import parent_death
    from starman.process.exiting import exit_unserved
    from starman.process.host.inherited import InheritedSockets
    from starman.process.master.stack_pipe import open_pipe

    sys.stdout.flush()
    sys.stderr.flush()
    parent_death.enable()
    try:
        # systemd's variables hold the process id of the command, so inherited sockets must be found before the fork.
        inherited_sockets = InheritedSockets.from_environ(os.environ)
        reading, writing = os.pipe()
        os.set_blocking(reading, False)  # a process that the application has left behind may hold the other end
        stacks, stacks_writing = open_pipe()
        parent_death.tie_next_fork(os.getpid())
        child = os.fork()
        parent_death.end_tie()
    except OSError as error:
        return report(StartError(f"cannot create a process to load the application: {error.strerror}"))
    except StarmanError as error:
        return report(error)
    if child == 0:
        exit_unserved(_check_in_child(settings, inherited_sockets if binds else None, writing, stacks_writing, load_by))
    os.close(writing)
    os.close(stacks_writing)
    status = _wait(child, settings.boot_timeout, stacks)
    stacks.close()
    if status is None:
        return 1
    if status < 0:
        print(f"starman: the process that loads the application was ended by signal {-status}", file=sys.stderr)
        return 1
    if not _has_reported(reading):
        print(
            f"starman: the process that loads the application exited with status {status} before the check was complete",
            file=sys.stderr,
        )
        return status or 1
    return status


def report(error: StarmanError) -> int:
    """Print `error` to standard error, and return its exit status."""
    details = f"\n{error.details}" if error.details else ""
    print(f"starman: {error}{details}", file=sys.stderr)
    return error.exit_status


def _has_reported(pipe: int) -> bool:
    """Whether the child has reported its result. If not, the application has ended it, with `os._exit` for example.
    Closes `pipe`."""
    try:
        return os.read(pipe, 1) != b""
    except BlockingIOError:
        return False
    finally:
        os.close(pipe)


def _wait(child: int, seconds: float, stacks: StackReader) -> int | None:
    """Wait for the child. Returns its exit code as `os.waitstatus_to_exitcode` does; None if it was killed at the
    timeout, after it has written its stacks to the pipe of `stacks`."""
    from starman.process.forking import STACKS

    deadline = time.monotonic() + seconds
    code: int | None = None
    try:
        while (code := _ended(child)) is None:
            if time.monotonic() >= deadline:
                print(
                    f"starman: the application was not ready to serve within {seconds:g} s (boot_timeout); its stacks follow",
                    file=sys.stderr,
                    flush=True,
                )
                os.kill(child, STACKS)
                code = _print_stacks(child, stacks)
                return None
            time.sleep(_LOOK_SECONDS)
        return code
    finally:
        if code is None:  # it took too long, or Ctrl-C ends this command
            _kill(child)


def _print_stacks(child: int, stacks: StackReader) -> int | None:
    """Print the stacks that the child writes after STACKS. If it writes none, force it. Returns its exit code if it
    has ended meanwhile."""
    from starman.process.forking import FORCED_STACKS
    from starman.process.master.stack_pipe import FORCE_SECONDS
    from starman.process.worker.stacks import arrange_stacks

    now = time.monotonic()
    forced_at, deadline = now + FORCE_SECONDS, now + _STACKS_SECONDS
    while (code := _ended(child)) is None and now < deadline and (stacks.due is None or now < stacks.due):
        if stacks.due is None and now >= forced_at:
            os.kill(child, FORCED_STACKS)
            forced_at = deadline
        time.sleep(_LOOK_SECONDS)
        stacks.read()
        now = time.monotonic()
    stacks.read()
    text = arrange_stacks(stacks.take_text())
    if text:
        print(text, file=sys.stderr, flush=True)
    return code


def _ended(child: int) -> int | None:
    found, status = os.waitpid(child, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if found else None


def _kill(child: int) -> None:
    try:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        return


def _sources(settings: Settings) -> str:
    """Where the settings were given: a file once, not with each of its settings."""
    given = (settings.source(name) for name in OPTIONS if settings.source(name) != DEFAULT_SOURCE)
    return ", ".join(dict.fromkeys(source.partition(": ")[0] for source in given)) or "no place: all are defaults"


def _check_in_child(
    settings: Settings,
    inherited_sockets: InheritedSockets | None,
    pipe: int,
    stacks: int,
    load_by: Callable[[Settings], Application] | None,
) -> int:
    """Check, and report on standard output and standard error. A byte on `pipe` says that the report is complete.

    inherited_sockets: None: bind no listener. stacks: where to write stacks when the parent requests them. load_by: as
    for `check`.
    """
    import faulthandler

    from starman.loading import describe
    from starman.process import parent_death
    from starman.process.host.privileges import Account
    from starman.process.worker.stack_dumps import enable_stack_dumps
    from starman.server import enter_directory, try_settings

    status = 1
    parent = os.getppid()
    streams = sys.stdout, sys.stderr
    try:
        enable_stack_dumps(stacks)
        faulthandler.enable(2)  # the stacks of a crash need no arrangement
        account = Account.of(settings)
        located = settings.with_absolute_paths(enter_directory(settings).absolute)
        owner = (-1, -1) if account is None else account.owner
        bound, notes = ([], []) if inherited_sockets is None else _bind(settings, inherited_sockets, owner)
        inherited = () if inherited_sockets is None else inherited_sockets.warnings
        if account is not None:
            account.drop_privileges()
            parent_death.retie(parent)
        _check_token(settings)
        try:
            try_settings(located, entered=True, load_by=load_by)
        finally:
            sys.stdout, sys.stderr = streams  # the application may have replaced them
        warnings = (*settings.warnings(), *inherited, *warnings_about_surroundings(settings))
        for line in (*notes, *warnings, service_links.notice(os.environ)):
            if line is not None:
                print(f"starman: {line}", file=sys.stderr)
        unbound = "not checked" if inherited_sockets is None else "no address could be checked"
        print_text(
            f"application  {describe(settings)}: loaded\n"
            f"listening    {', '.join(bound) or unbound}\n"
            f"settings     valid; from {_sources(settings)}"
        )
        status = 0
    except StarmanError as error:
        status = report(error)
    except KeyboardInterrupt:
        status = INTERRUPTED
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    os.write(pipe, b".")
    return status


def _check_token(settings: Settings) -> None:
    from starman.process.host.admin import read_admin_token

    read_admin_token(settings)


def _bind(settings: Settings, inherited_sockets: InheritedSockets, owner: tuple[int, int]) -> tuple[list[str], list[str]]:
    """Bind every address and release it. Returns what was bound, and lines about what was not tried. Raises
    ListenError."""
    from starman.process.host.admin import open_admin_listeners
    from starman.process.host.listeners import open_listeners

    bound, notes = [], []
    listeners: list[Listener] = []
    try:
        for address in inherited_sockets.addresses(settings):
            if address.kind is AddressKind.FD and not inherited_sockets.fds:
                notes.append(f"{address} is not checked: the socket is inherited when the server starts")
                continue
            try:
                listeners += open_listeners([address], settings, owner, listens=False, beside=listeners)
                bound.append(f"{address}: can be bound")
            except ListenError as error:
                bound.append(_held(address, settings, error))
        if settings.admin_listen is not None:
            address = parse_address(settings.admin_listen)
            try:
                listeners += open_admin_listeners(settings, owner, listens=False, beside=listeners)
                bound.append(f"{address}: can be bound (admin)")
            except ListenError as error:
                bound.append(_held(address, settings, error))
    finally:
        for listener in listeners:
            listener.close()
    return bound, notes


def _held(address: Address, settings: Settings, error: ListenError) -> str:
    """The report for an address in use: fine if the server of the pid file listens on it. Raises `error` otherwise."""
    from starman.process.host.pidfile import running_pid
    from starman.process.host.port_holder import listens

    pid = None if settings.pid is None else running_pid(settings.pid)
    if pid is not None and listens(pid, address):
        return f"{address}: in use by the running server (process {pid}, pid file {settings.pid})"
    if settings.pid is None and "in use" in str(error):
        advice = "If your running starman holds it, repeat the check with that server's --pid FILE"
        raise ListenError(f"{error}. {advice}", error.details) from None
    raise error
