"""Master, molds and workers from outside: signals, deaths, broken code, sockets, titles.

Each test writes its own small application, because most tests change or break its code while the server runs.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.functional.support.code import MODES, Code, answers, molds, sockets, title
from tests.functional.support.harness import REPOSITORY, Process, wait_for_idle_threads, wait_until
from tests.functional.support.wire import NoResponseError, WireError, encode_request

# Start and stop.


def test_the_ready_line(code: Code) -> None:
    with code.serve("--workers", "3", "--threads", "2") as server:
        line = server.wait_for(r"starman .*").group()
        assert re.fullmatch(
            rf"starman \d+\.\d+\.\d+ ready: 3 workers \u00d7 2 threads on http://127\.0\.0\.1:{server.port}", line
        )
        assert len(server.worker_pids()) == 3


@MODES
@pytest.mark.parametrize("signum", [signal.SIGQUIT, signal.SIGTERM, signal.SIGINT])
def test_stop_signals_end_everything_with_status_0(code: Code, mode: str, signum: signal.Signals) -> None:
    with code.serve(mode) as server:
        assert answers(server) == {"one"}
        assert server.stop(signum) == 0
    # The thread of the last request may still be about to note that it is done.
    assert re.search(
        r"\[INFO\] stopping: (no|\d|at least \d) requests? .*in flight.*\n.*\[INFO\] starman \S+ has ended\n$", server.log
    )
    assert "ERROR" not in server.log
    assert "WARNING" not in server.log


def test_new_connections_are_refused_as_soon_as_it_stops_while_old_requests_finish(code: Code) -> None:
    with code.serve() as server, server.client() as client:
        client.send(encode_request("GET", "/sleep/6"))
        wait_for_idle_threads(code.directory)
        server.signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                socket.create_connection(("127.0.0.1", server.port), 1).close()
            except ConnectionRefusedError:
                return True
            return False

        assert wait_until(refused, 5.5)
        assert client.read().body == b"one"
        assert server.wait() == 0


def test_a_second_term_cuts(code: Code) -> None:
    with code.serve() as server, server.client() as client:
        client.send(encode_request("GET", "/sleep/60"))
        wait_for_idle_threads(code.directory)
        server.signal(signal.SIGTERM)
        server.wait_for("stopping: (?:at least )?1 request is in flight and may take 30 s to finish; a second signal aborts it")
        server.signal(signal.SIGTERM)
        assert not wait_until(lambda: server.status is not None, 1.1), "within a second it is the same stop"
        server.signal(signal.SIGTERM)
        assert server.wait(10) == 1
        server.wait_for(r"stopping at once: all workers are killed while serving GET /sleep/60 \(for \d+\.\d s\)")
        server.wait_for(r"starman \S+ has ended; requests were cut\n")
        with pytest.raises(NoResponseError):
            client.read()


def test_the_graceful_timeout_cuts(code: Code) -> None:
    with code.serve("--graceful-timeout", "0.5") as server, server.client() as client:
        client.send(encode_request("GET", "/sleep/60"))
        wait_for_idle_threads(code.directory)
        server.signal(signal.SIGTERM)
        assert server.wait(10) == 0
        server.wait_for(
            r"graceful_timeout is over \(0\.5 s\): 1 connection is reset while serving GET /sleep/60 \(for \d+\.\d s\)\n"
        )
        server.wait_for(r"starman \S+ has ended\n")
        with pytest.raises(WireError):
            client.read()


def test_hazard_08_ctrl_c_reaches_the_whole_group_and_is_one_graceful_stop(code: Code) -> None:
    with code.serve() as server, server.client() as client:
        client.send(encode_request("GET", "/sleep/0.7"))
        wait_for_idle_threads(code.directory)
        os.killpg(server.pid, signal.SIGINT)
        os.killpg(server.pid, signal.SIGINT)
        assert client.read().body == b"one"
        assert server.wait() == 0


def test_hazard_08_a_term_for_the_whole_group_is_graceful_too(code: Code) -> None:
    with code.serve() as server, server.client() as client:
        client.send(encode_request("GET", "/sleep/0.7"))
        wait_for_idle_threads(code.directory)
        os.killpg(server.pid, signal.SIGTERM)
        assert client.read().body == b"one"
        assert server.wait() == 0


@MODES
def test_hazard_08_stop_signals_while_workers_are_being_forked(code: Code, mode: str) -> None:
    with code.serve(mode) as server:
        for number in range(6):
            server.signal(signal.SIGHUP)
            server.signal(signal.SIGTTIN)
            server.wait_for("one worker more", count=number + 1)
        assert server.stop(signal.SIGTERM) == 0


def test_hazard_08_the_programs_of_an_application_have_ordinary_signals(code: Code) -> None:
    more = "\nimport subprocess\nVERSION = subprocess.check_output(['grep', '^Sig[BI]', '/proc/self/status'], text=True)\n"
    code.write("one", more)
    with code.serve() as server:
        (fields,) = [dict(line.split(":\t") for line in text.splitlines()) for text in answers(server)]
    for signum in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
        assert not int(fields["SigBlk"], 16) >> (signum - 1) & 1
        assert not int(fields["SigIgn"], 16) >> (signum - 1) & 1


def test_hazard_16_the_applications_atexit_runs_once_a_worker(code: Code) -> None:
    more = "\nimport atexit\natexit.register(lambda: open(f'ended-{os.getpid()}', 'x'))\nprint('imported', flush=False)\n"
    code.write("one", more)
    with code.serve() as server:
        workers = server.worker_pids()
        assert server.stop() == 0
    assert sorted(path.name for path in code.directory.glob("ended-*")) == sorted(f"ended-{pid}" for pid in workers)
    assert server.log.count("imported") == 2


def test_hazard_16_what_a_preloaded_application_has_buffered_is_written_once(code: Code) -> None:
    code.write("one", "\nprint('imported', end=' ')\n")
    with code.serve("--preload-app") as server:
        assert server.stop() == 0
    assert server.log.count("imported") == 1


def test_hazard_17_the_limit_of_descriptors_is_raised(code: Code) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        with code.serve() as server:
            assert {int(limit) for limit in answers(server, "/descriptors")} == {min(hard, 1_048_576)}
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


# The first start fails.


@MODES
@pytest.mark.parametrize("broken", ["raise ValueError('broken')", "def broken(:", "import no_such_module"])
def test_a_broken_application_ends_the_start_with_its_traceback_once(code: Code, mode: str, broken: str) -> None:
    code.write("one", f"\n{broken}\n")
    began = time.monotonic()
    failure = code.fails(mode, "--workers", "4")
    assert time.monotonic() - began < 25, "it is not tried again, pause after pause"
    assert failure.status not in (0, None)
    assert failure.log.count(broken) == 1, failure.log
    assert "site_app.py" in failure.log
    assert "starman/process" not in failure.log


@MODES
@pytest.mark.parametrize("ending", ["os._exit(7)", "os.kill(os.getpid(), 9)", "raise SystemExit(4)"])
def test_an_application_that_ends_its_process_ends_the_start(code: Code, mode: str, ending: str) -> None:
    code.write("one", f"\n{ending}\n")
    failure = code.fails(mode)
    assert failure.status not in (0, None)
    words = {
        "os._exit(7)": "exited with status 7 before it was ready",
        "os.kill(os.getpid(), 9)": "was killed by SIGKILL (out of memory?) before",
    }
    assert words.get(ending, "SystemExit") in failure.log


@MODES
def test_an_application_that_never_loads_ends_the_start(code: Code, mode: str) -> None:
    code.write("one", "\ntime.sleep(600)\n")
    failure = code.fails(mode, "--boot-timeout", "1")
    assert failure.status not in (0, None)
    assert "was not ready within 1 s (boot_timeout)" in failure.log


def test_a_port_in_use_is_one_line(code: Code) -> None:
    with code.serve() as server:
        failure = code.fails(listen=f"127.0.0.1:{server.port}")
    assert failure.status not in (0, None)
    assert f"cannot listen on 127.0.0.1:{server.port}: address already in use" in failure.log
    assert "Traceback" not in failure.log


def test_a_stale_socket_is_replaced_and_a_live_one_refused(code: Code, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    with code.serve("--socket-mode", "0600", listen=str(path)) as server:
        assert server.listeners == f"unix:{path}"
        assert path.stat().st_mode & 0o777 == 0o600
        failure = code.fails(listen=str(path))
        assert failure.status not in (0, None)
        assert f"cannot listen on unix:{path}: a server is alive on that socket" in failure.log
        assert answers(server) == {"one"}
    assert not path.exists()


def test_hazard_12_the_socket_survives_its_workers(code: Code, tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    with code.serve(listen=str(path)) as server:
        before = set(server.worker_pids())
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new")
        assert wait_until(lambda: not before & set(server.children()) and len(server.worker_pids()) == 2)
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        server.wait_for("was killed by SIGKILL", count=2)
        assert answers(server) == {"one"}
    assert not path.exists()


# Restart, more, fewer.


@MODES
def test_hup_serves_changed_code_from_new_workers_under_the_same_master(code: Code, mode: str) -> None:
    with code.serve(mode) as server:
        before = set(server.worker_pids())
        assert answers(server) == {"one"}
        code.write("two")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new")
        assert wait_until(lambda: not before & set(server.children()), 10)
        assert answers(server) == {"two"}
        assert wait_until(lambda: len(molds(server)) == (2 if mode == "--preload-app" else 1), 10)


@MODES
def test_hup_with_broken_code_leaves_the_old_workers_alone(code: Code, mode: str) -> None:
    with code.serve(mode) as server:
        before = server.worker_pids()
        code.write("two", "\nraise ValueError('broken')\n")
        server.signal(signal.SIGHUP)
        server.wait_for("restart given up, the old workers stay")
        server.wait_for("ValueError: broken")
        assert server.worker_pids() == before
        assert answers(server) == {"one"}
        assert server.log.count("ValueError: broken") <= 2  # the line of the reason, and the traceback
        code.write("three")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new")
        assert wait_until(lambda: not set(before) & set(server.children()), 10)
        assert answers(server) == {"three"}


def test_a_second_hup_during_a_restart_ends_with_the_newest_code(code: Code) -> None:
    with code.serve("--workers", "3") as server:
        code.write("two", "\ntime.sleep(0.5)\n")
        server.signal(signal.SIGHUP)
        server.wait_for("fresh code")
        time.sleep(0.1)
        code.write("three")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 3 workers are new")
        assert wait_until(lambda: answers(server) == {"three"}, 30)
        assert wait_until(lambda: len(server.worker_pids()) == 3, 10)


def test_ttin_and_ttou(code: Code) -> None:
    with code.serve("--workers", "1") as server:
        server.signal(signal.SIGTTIN)
        assert wait_until(lambda: len(server.worker_pids()) == 2)
        server.signal(signal.SIGTTOU)
        assert wait_until(lambda: len(server.worker_pids()) == 1)
        server.signal(signal.SIGTTOU)
        server.wait_for("cannot go below one worker")
        assert answers(server) == {"one"}


# Crashes.


def test_a_killed_worker_is_replaced(code: Code) -> None:
    with code.serve() as server:
        victim, sibling = server.worker_pids()
        time.sleep(1.0)  # younger, it would have died at boot
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"worker \d \({victim}\) was killed by SIGKILL \(out of memory\?\); it is replaced")
        assert wait_until(lambda: len(server.worker_pids()) == 2, 10)
        assert sibling in server.worker_pids()


def test_hazard_06_a_child_of_the_application_does_not_hide_the_death_of_a_worker(code: Code) -> None:
    # Forked without exec, it holds the worker's end of the channel, so that no end of file comes.
    code.write("one", "\nif os.fork() == 0:\n    time.sleep(600)\n")
    with code.serve("--workers", "1") as server:
        (victim,) = [pid for pid in server.worker_pids() if pid in server.children()]
        (child,) = server.children(victim)
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"worker 1 \({victim}\) was killed by SIGKILL")
        assert wait_until(lambda: any(server.children(pid) for pid in server.worker_pids()), 10)
        orphans = [child] + [each for pid in server.worker_pids() for each in server.children(pid)]
        for orphan in orphans:
            os.kill(orphan, signal.SIGKILL)
        assert server.stop() == 0


def test_hazard_06_a_worker_that_closes_its_channel_counts_as_dead(code: Code) -> None:
    # As code does that closes whatever it finds, to become a daemon.
    more = """
import socket
def blind(environ, start_response):
    for fd in range(3, 64):
        try:
            with socket.socket(fileno=os.dup(fd)) as found:
                if found.type == socket.SOCK_SEQPACKET:
                    os.close(fd)
        except OSError:
            pass
    return app_of_old(environ, start_response)
app_of_old, app = app, lambda environ, start: (blind if environ["PATH_INFO"] == "/blind" else app_of_old)(environ, start)
"""
    code.write("one", more)
    with code.serve("--workers", "1") as server:
        (victim,) = server.worker_pids()
        with server.client() as client:
            client.send(encode_request("GET", "/blind"))
            server.wait_for(rf"worker 1 \({victim}\) closed its channel")
        assert wait_until(lambda: len(server.worker_pids()) == 1 and victim not in server.children(), 10)
        assert answers(server) == {"one"}


def test_a_worker_that_is_told_to_stop_drains_and_is_replaced(code: Code) -> None:
    with code.serve("--workers", "1") as server, server.client() as client:
        worker = int(client.get("/pid").body)
        client.send(encode_request("GET", "/sleep/4"))
        wait_for_idle_threads(code.directory)
        os.kill(worker, signal.SIGQUIT)
        assert wait_until(lambda: len(server.worker_pids()) == 2, 5), "its successor does not wait for its end"
        assert client.read().body == b"one"
        assert wait_until(lambda: worker not in server.children(), 10)


@MODES
def test_a_killed_mold_is_made_anew_and_no_client_notices(code: Code, mode: str) -> None:
    with code.serve(mode) as server:
        workers = server.worker_pids()
        victims = molds(server)
        for victim in victims:
            os.kill(victim, signal.SIGKILL)
        server.wait_for(r"the mold \(\d+\), which forks workers, was killed by SIGKILL", count=len(victims))
        assert answers(server) == {"one"}
        assert server.worker_pids() == workers
        code.write("two")
        server.signal(signal.SIGHUP)
        server.wait_for("restarted: 2 workers are new")
        assert wait_until(lambda: not set(workers) & set(server.children()), 10)
        assert answers(server) == {"two"}


@MODES
def test_hazard_07_all_processes_end_when_the_master_is_killed(code: Code, mode: str) -> None:
    with code.serve(mode, "--workers", "3") as server, server.client() as client:
        client.send(encode_request("GET", "/sleep/1"))
        wait_for_idle_threads(code.directory)
        os.kill(server.pid, signal.SIGKILL)
        assert client.read().body == b"one", "what is in flight is finished first"
        assert wait_until(lambda: not server.session_pids(), 5), server.log
        server.kill()


def test_hazard_07_no_process_holds_what_is_another_ones(code: Code) -> None:
    with code.serve("--preload-app", "--workers", "3") as server:
        master = sockets(server.pid)
        everybody = {pid: sockets(pid) for pid in (*molds(server), *server.worker_pids())}
        assert len(everybody) == 5
        shared = set.intersection(*everybody.values())
        assert len(shared) == 1, "the listener alone is everybody's"
        for pid, held in everybody.items():
            (stacks,) = (held & master) - shared
            assert stacks.startswith("pipe:"), "what a process shares with the master alone is where it writes its stacks"
            for other, others in everybody.items():
                assert other == pid or held & others == shared, (title(pid), title(other))
        for pid in molds(server):
            # Beside them the pipe in which libuv, since the rehearsal, keeps a lock, and which it makes anew in each
            # fork.
            mine = [name for name in everybody[pid] if name.startswith("socket:")]
            assert len(mine) == 2, "a mold has the listener and its channel"


def test_a_crash_loop_backs_off_and_mends_itself(code: Code) -> None:
    with code.serve("--workers", "4") as server:
        code.write("two", "\nraise ValueError('broken')\n")
        began = time.monotonic()
        for pid in server.worker_pids():
            os.kill(pid, signal.SIGKILL)
        server.wait_for("could not start: .*next attempt in 1.0 s")
        server.wait_for("could not start: .*next attempt in 2.0 s")
        assert time.monotonic() - began >= 1.0
        assert server.log.count("could not start") <= 4 + 2
        assert server.log.count("raise ValueError") <= 3
        code.write("three")
        assert wait_until(lambda: len(server.worker_pids()) == 4, 10), server.log
        assert answers(server) == {"three"}


# What processes look like.


def test_titles(code: Code) -> None:
    with code.serve("--preload-app") as server:
        shown = sorted(title(pid) for pid in (server.pid, *server.children()))
        assert shown == [
            "starman master site_app:app",
            "starman mold site_app:app",
            "starman mold site_app:app",
            "starman worker 1 site_app:app",
            "starman worker 2 site_app:app",
        ]
        assert Path(f"/proc/{server.pid}/comm").read_text() == "starman master\n"


def test_titles_can_be_left_alone(code: Code) -> None:
    with code.serve("--disable-proctitle") as server:
        assert not any("starman master" in title(pid) or "starman worker" in title(pid) for pid in server.session_pids())


@MODES
def test_random_numbers_differ_between_workers(code: Code, mode: str) -> None:
    seen = set()
    with code.serve(mode, "--workers", "1") as server:
        for number in range(3):
            with server.client() as client:
                seen.add(client.get("/random").body)
            os.kill(server.worker_pids()[0], signal.SIGKILL)
            server.wait_for("was killed by SIGKILL", count=number + 1)
            assert wait_until(lambda: len(server.worker_pids()) == 1, 15)
    assert len(seen) == 3


def test_the_master_is_small(code: Code) -> None:
    with code.serve("--workers", "4") as server:
        (kilobytes,) = re.findall(r"^Pss: +(\d+) kB", Path(f"/proc/{server.pid}/smaps_rollup").read_text(), re.MULTILINE)
    # Python itself takes 0.7 MB more from 3.14 on.
    assert int(kilobytes) < (7 if sys.version_info < (3, 14) else 8) * 1024


EMBEDDING = """
import os, signal, subprocess, sys
import starman

def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"embedded"]

if __name__ == "__main__":
    mine = lambda signum, frame: None
    signal.signal(signal.SIGTERM, mine)
    child = subprocess.Popen(["sh", "-c", "exit 42"])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    starman.run(APP, workers=2, listen="127.0.0.1:0")
    assert signal.getsignal(signal.SIGTERM) is mine
    print("after", child.wait(), flush=True)
"""


@pytest.mark.parametrize("given", ["app", "'embedding:app'"])
def test_embedded_the_calling_program_keeps_its_signals_and_children(
    tmp_path: Path, given: str, background: Callable[[list[str], Path], Process]
) -> None:
    script = tmp_path / "embedding.py"
    script.write_text(EMBEDDING.replace("APP", given, 1))
    process = background([sys.executable, str(script)], tmp_path)
    process.wait_for("ready: 2 workers")
    process.signal(signal.SIGHUP)
    process.wait_for("its code stays as it is" if given == "app" else "with fresh code")
    process.wait_for("restarted: 2 workers are new")
    process.signal(signal.SIGTERM)
    process.wait_for("after 42")
    assert process.wait() == 0


@pytest.fixture
def background() -> Callable[[list[str], Path], Process]:
    def start(command: list[str], cwd: Path) -> Process:
        return Process(command, cwd=cwd, env={"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{cwd}"})

    return start
