"""An application that forks: each path in its own way. The children write what they find into files of
FORKS_DIRECTORY."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pty
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from starman.process.proctitle import set_title

Environ = dict[str, Any]
StartResponse = Callable[..., Any]

DIRECTORY = Path(os.environ.get("FORKS_DIRECTORY", "."))
FORK = multiprocessing.get_context("fork")
pool: ProcessPoolExecutor | None = None

if os.environ.get("FORKS_POOL"):
    # By its title the harness would take the process of a mold's pool for a worker on its way.
    pool = ProcessPoolExecutor(1, mp_context=FORK, initializer=set_title, initargs=("process of a pool",))
    if os.environ["FORKS_POOL"] == "at import":
        pool.submit(os.getpid).result()
if os.environ.get("FORKS_AT_IMPORT") and os.fork() == 0:
    sys.exit(3)


def note(name: str, text: str = "") -> None:
    """Write a file of this name, which is complete as soon as it exists."""
    made = DIRECTORY / f"{name}.{os.getpid()}"
    made.write_text(text)
    made.rename(DIRECTORY / name)


def wait_for_word() -> None:
    """Wait until the test removes the file "stay"."""
    while (DIRECTORY / "stay").exists():
        time.sleep(0.01)


def app(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Run the function of the path, and answer with its result."""
    answer = PATHS[environ["PATH_INFO"].split("/")[1]](environ, start_response)
    if not isinstance(answer, str):
        return answer
    body = f"{environ['PATH_INFO']} {answer}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


def report_pid(environ: Environ, start_response: StartResponse) -> str:
    """The worker's process id."""
    return str(os.getpid())


def reap(pid: int) -> str:
    """Wait for a child. Returns how it ended."""
    return str(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


def exit_in_child(environ: Environ, start_response: StartResponse) -> str:
    """The child calls sys.exit, the most common accident."""
    pid = os.fork()
    if pid == 0:
        print("a word of the child")
        sys.exit(7)
    return reap(pid)


def return_in_child(environ: Environ, start_response: StartResponse) -> str:
    """The child returns as well."""
    pid = os.fork()
    return reap(pid) if pid else "the child's answer"


def raise_in_child(environ: Environ, start_response: StartResponse) -> str:
    """The child fails."""
    pid = os.fork()
    if pid == 0:
        raise LookupError("in the child")
    return reap(pid)


def write_in_child(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """The child begins a response of its own."""
    pid = os.fork()
    if pid == 0:
        start_response("200 OK", [("X-From", "child")])(b"the child's answer")
    start_response("200 OK", [("Content-Length", "1")])
    return [reap(pid).encode()]


def stream_in_child(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Forks between two blocks; the child goes on with the response."""
    start_response("200 OK", [("Content-Type", "text/plain")])
    yield b"first,"
    pid = os.fork()
    if pid == 0:
        yield b""
        yield b"the child's block,"
        return
    yield reap(pid).encode()


def end_stream_in_child(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Fork when the whole response is sent, so that the child has nothing to send."""
    start_response("200 OK", [("Content-Length", "5")])
    yield b"whole"
    pid = os.fork()
    if pid:
        note("ended", reap(pid))


def read_in_child(environ: Environ, start_response: StartResponse) -> str:
    """The child reads a body that has not arrived yet."""
    pid = os.fork()
    if pid == 0:
        try:
            environ["wsgi.input"].read()
        except OSError:
            os._exit(5)
        os._exit(0)
    status = reap(pid)
    note("read", status)
    return f"{status} {environ['wsgi.input'].read().decode()}"


def describe(fd: int) -> str:
    """The target of a descriptor."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return "closed"


def live_on(environ: Environ, start_response: StartResponse) -> str:
    """A child that lives until the test ends it, and writes down its sockets."""
    pid = os.fork()
    if pid == 0:
        found = [describe(int(fd)) for fd in os.listdir("/proc/self/fd")]
        note("child", "\n".join([str(os.getpid()), *found]))
        wait_for_word()
        os._exit(0)
    return str(pid)


def wait_for_signal(environ: Environ, start_response: StartResponse) -> str:
    """A child that a signal from the test ends, and how it ended. The child's process id is written for the test."""
    pid = os.fork()
    if pid == 0:
        note("child", str(os.getpid()))
        while True:
            signal.pause()
    return reap(pid)


def daemonize(environ: Environ, start_response: StartResponse) -> str:
    """The double fork of a daemon, which lives until the test ends it."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        if os.fork():
            os._exit(0)
        note("child", str(os.getpid()))
        wait_for_word()
        note("done")
        sys.exit()
    return reap(pid)


def open_terminal(environ: Environ, start_response: StartResponse) -> str:
    """pty.fork: returns what the child writes to its terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.write(1, b"terminal")
        sys.exit(4)
    said = os.read(terminal, 8).decode()
    status = reap(pid)
    os.close(terminal)
    return f"{said} {status}"


def process(environ: Environ, start_response: StartResponse) -> str:
    """A multiprocessing.Process, which is then terminated."""
    said = FORK.Queue()
    started = FORK.Process(target=_say_and_wait, args=(said,))
    started.start()
    word = said.get(timeout=30)
    started.terminate()
    started.join()
    return f"{word} {started.exitcode}"


def _say_and_wait(said: Any) -> None:
    said.put("hello")
    time.sleep(60)


def process_pool(environ: Environ, start_response: StartResponse) -> str:
    """multiprocessing.Pool, for one request."""
    with FORK.Pool(2) as workers:
        return str(sum(workers.map(abs, range(-3, 0))))


def executor(environ: Environ, start_response: StartResponse) -> str:
    """The process pool of this module."""
    assert pool is not None
    return str(pool.submit(os.getpid).result())


def fork_in_c(environ: Environ, start_response: StartResponse) -> str:
    """A fork that Python does not notice: its child has all descriptors, and waits until it is killed."""
    libc = ctypes.PyDLL(None)
    pid = libc.fork()
    if pid == 0:
        libc.pause()
    note("child", str(pid))
    return str(pid)


def at_exit(environ: Environ, start_response: StartResponse) -> str:
    """Something that is still under way when the worker ends: a process that has not been ended."""
    FORK.Process(target=wait_for_word).start()
    return "started"


def share_socket(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
    """Share the connection itself: the child has it as well, and may return."""
    connection = environ["gunicorn.socket"]
    connection.sendall(b"parent,")
    pid = os.fork()
    if pid == 0:
        connection.sendall(b"child,")
        connection.close()  # its own one: the parent's goes on
        return []
    connection.sendall(reap(pid).encode())
    return []


PATHS: dict[str, Callable[[Environ, StartResponse], Any]] = {
    "pid": report_pid,
    "exit": exit_in_child,
    "return": return_in_child,
    "raise": raise_in_child,
    "write": write_in_child,
    "stream": stream_in_child,
    "end-stream": end_stream_in_child,
    "read": read_in_child,
    "live-on": live_on,
    "signal": wait_for_signal,
    "daemon": daemonize,
    "terminal": open_terminal,
    "process": process,
    "pool": process_pool,
    "executor": executor,
    "c": fork_in_c,
    "at-exit": at_exit,
    "socket": share_socket,
}
