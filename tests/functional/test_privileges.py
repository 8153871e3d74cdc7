"""Started by root, run as another user: binding, owners of files, and no privileges left. These tests need root."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.functional.support.accounts import Account, Place, place_for
from tests.functional.support.harness import Process, wait_until
from tests.functional.support.tools import need_root
from tests.functional.support.wire import Client

APPLICATION = """\
import json, os

def app(environ, start_response):
    found = {"pid": os.getpid(), "umask": os.umask(0o022)}
    try:
        os.setuid(0)
        found["root"] = "is back"
    except PermissionError:
        found["root"] = "is gone"
    for name, pid in (("own", os.getpid()), ("master", os.getppid())):
        with open(f"/proc/{pid}/smaps_rollup") as file:
            found[name] = "Pss:" in file.read()
    body = json.dumps(found).encode()
    start_response("200 OK", [("Content-Length", str(len(body)))])
    return [body]
"""


@pytest.fixture(scope="module")
def account() -> Iterator[Account]:
    need_root()
    made = Account(f"starman{os.getpid()}")
    try:
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def place(account: Account) -> Iterator[Place]:
    with place_for(account) as made:
        (made.site / "site_app.py").write_text(APPLICATION)
        yield made


@pytest.fixture
def started() -> Iterator[list[Process]]:
    """Servers put in here are ended with the test."""
    processes: list[Process] = []
    yield processes
    for process in processes:
        process.kill()


def identity(pid: int) -> tuple[set[int], set[int], set[int]]:
    """The user, group and supplementary groups of a process: real, effective, saved and of the file system."""
    lines = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    uid, gid, groups = ({int(number) for number in lines[name].split()} for name in ("Uid", "Gid", "Groups"))
    return uid, gid, groups


def owners(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_uid, found.st_gid


def low_port() -> int:
    """A free port that only root may bind."""
    for port in range(700 + os.getpid() % 200, 1024):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise AssertionError("no low port is free")


def report(client: Client) -> dict[str, object]:
    with client:
        found: dict[str, object] = json.loads(client.get("/").body)
        return found


def test_root_binds_and_creates_and_everything_runs_as_the_user(account: Account, place: Place, started: list[Process]) -> None:
    port = low_port()
    logs = place.directory / "logs"
    logs.mkdir()
    files = {name: logs / f"{name}.log" for name in ("error", "access")}
    paths = ["--pid", "server.pid", "--error-log", str(files["error"]), "--access-log", str(files["access"])]
    listen = ["--listen", f"127.0.0.1:{port}", "--listen", "./site.sock"]
    server = place.start("site_app:app", "--workers", "2", "--user", account.name, "--umask", "027", *listen, *paths)
    started.append(server)
    log = files["error"]
    assert wait_until(lambda: server.status is not None or (log.exists() and "ready: " in log.read_text()), 30)
    assert (place.site / "server.pid").read_text() == f"{server.pid}\n"
    expected = {account.uid}, {account.gid}, {account.gid, account.further_gid}
    pids = server.session_pids()
    assert len(pids) == 4, pids
    assert [identity(pid) for pid in pids] == [expected] * 4
    titles = [Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").decode() for pid in pids]
    assert sorted(titles) == [f"starman {role} site_app:app" for role in ("master", "mold", "worker 1", "worker 2")]

    found = report(Client(("127.0.0.1", port)))
    assert found == {"pid": found["pid"], "umask": 0o027, "root": "is gone", "own": True, "master": True}
    assert report(Client(str(place.site / "site.sock")))["root"] == "is gone"

    for path in (*files.values(), place.site / "site.sock"):
        assert owners(path) == (account.uid, account.gid), path
    # Root's, or `kill $(cat server.pid)` would signal whatever process the user writes there.
    assert owners(place.site / "server.pid") == (0, 0)
    warning = f"--pid: user {account.name} may write in {place.site}, and so could replace the pid file"
    assert log.read_text().count(warning) == 1
    assert {name: stat.S_IMODE(path.stat().st_mode) for name, path in files.items()} == {"error": 0o640, "access": 0o640}
    assert stat.S_IMODE((place.site / "site.sock").stat().st_mode) == 0o750

    server.signal(signal.SIGHUP)
    assert wait_until(lambda: "2 workers are new" in files["error"].read_text(), 30)
    assert report(Client(("127.0.0.1", port)))["root"] == "is gone"
    assert server.stop() == 0
    assert not (place.site / "server.pid").exists()
    assert not (place.site / "site.sock").exists()
    assert len(files["access"].read_text().splitlines()) == 3


@pytest.mark.parametrize("preload", ["--preload-app", "--no-preload-app"])
def test_the_application_is_never_imported_by_root(account: Account, place: Place, started: list[Process], preload: str) -> None:
    (place.site / "whose_app.py").write_text(
        "import os\n\nUID = os.getuid()\n\ndef app(environ, start_response):\n"
        "    start_response('200 OK', [])\n    return [str(UID).encode()]\n"
    )
    server = place.start("whose_app:app", "--workers", "1", "--user", str(account.uid), "--listen", "./whose.sock", preload)
    started.append(server)
    server.wait_for("ready: ", 30)
    with Client(str(place.site / "whose.sock")) as client:
        assert client.get("/").body == str(account.uid).encode()
    assert server.stop() == 0


@pytest.mark.parametrize(
    "arguments",
    [["--user", "{name}", "--group", "{further}"], ["--user", "654321", "--group", "{further_gid}"], ["--group", "{further}"]],
)
def test_users_and_groups_by_name_and_number(
    account: Account, place: Place, started: list[Process], arguments: list[str]
) -> None:
    names = {"name": account.name, "further": account.further, "further_gid": account.further_gid}
    chosen = [text.format(**names) for text in arguments]
    server = place.start("--workers", "1", "--listen", f"@{account.name}", *chosen, "site_app:app")
    started.append(server)
    server.wait_for("ready: ", 30)
    uid = {"--group": 0, "654321": 654321}.get(arguments[-2] if len(arguments) == 2 else arguments[1], account.uid)
    groups = {account.further_gid}
    assert {tuple(map(frozenset, identity(pid))) for pid in server.session_pids()} == {
        (frozenset({uid}), frozenset(groups), frozenset(groups))
    }
    assert server.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--user", "no-such-user"], "--user: no user is called 'no-such-user'"),
        (["--group", "no-such-group"], "--group: no group is called 'no-such-group'"),
        (["--user", "654321"], "--user: user 654321 is not in the password database: give a group too"),
    ],
)
def test_a_user_or_group_that_does_not_exist_is_named(
    place: Place, started: list[Process], arguments: list[str], reason: str
) -> None:
    server = place.start("--listen", "./nobody.sock", *arguments, "site_app:app")
    started.append(server)
    assert server.wait() == 2
    server.wait_for("starman: ")
    assert server.log == f"starman: {reason}\n"


def test_a_log_that_is_not_the_users(account: Account, place: Place, started: list[Process]) -> None:
    """Root does not write through a link that another user has put there, nor give such a file away."""
    precious = place.directory / "precious"
    precious.write_text("precious\n")
    (place.site / "linked.log").symlink_to(precious)
    server = place.start("--user", account.name, "--error-log", "linked.log", "--listen", "./linked.sock", "site_app:app")
    started.append(server)
    assert server.wait() == 2
    server.wait_for("cannot write")
    assert server.log == "starman: error_log: cannot write linked.log: Permission denied\n"
    assert (precious.read_text(), owners(precious)) == ("precious\n", (0, 0))
    assert not (place.site / "linked.sock").exists()


def test_a_pid_file_where_the_user_may_not_remove_it(account: Account, place: Place, started: list[Process]) -> None:
    """The file is stale then, and the next start replaces it."""
    path = place.directory / "roots.pid"
    for _ in range(2):
        arguments = ("--workers", "1", "--user", account.name, "--pid", str(path), "--listen", f"@{account.name}-pid")
        server = place.start(*arguments, "site_app:app")
        started.append(server)
        server.wait_for("ready: ", 30)
        assert path.read_text() == f"{server.pid}\n"
        assert owners(path) == (0, 0)
        assert stat.S_IMODE(path.stat().st_mode) & 0o022 == 0
        assert "could replace the pid file" not in server.log
        assert server.stop() == 0
        assert path.read_text() == f"{server.pid}\n"


def test_a_pid_file_where_the_user_may_not_even_look(account: Account, place: Place, started: list[Process]) -> None:
    closed = place.directory / "closed"
    closed.mkdir(mode=0o700)
    path = closed / "run" / "roots.pid"
    path.parent.mkdir()
    server = place.start("--workers", "1", "--user", account.name, "--pid", str(path), "--listen", "@starman-pid", "site_app:app")
    started.append(server)
    server.wait_for("ready: ")
    assert path.read_text() == f"{server.pid}\n"
    assert "could replace the pid file" not in server.log
    assert server.stop() == 0


@pytest.mark.parametrize("words", ["--workers 1 site_app:app", "siteapp --workers 1"])
def test_a_user_that_may_not_read_python(place: Place, account: Account, started: list[Process], words: str) -> None:
    """A first argument like `siteapp` is compared with the commands, by a module that cannot be read any more."""
    (place.site / "siteapp.py").write_text(APPLICATION)
    place.directory.chmod(0o700)
    try:
        server = place.start(*words.split(), "--user", account.name, "--listen", f"@{account.name}-python")
        started.append(server)
        assert server.wait() == 2, server.log
        server.wait_for("the server needs the modules there")
        assert f"user: {account.name} may not read {place.directory}/python/" in server.log
    finally:
        place.directory.chmod(0o755)


def test_a_full_standard_error_that_only_root_may_open_stops_nothing(account: Account, place: Place) -> None:
    """A pipe belongs to the user that has made it: no other may open it anew, to write to it without waiting."""
    path = place.site / "full.sock"
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"." * 512)
    os.set_blocking(writing, True)

    def answered() -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(str(path)):
                return False
        with Client(str(path), 20.0) as client:
            return client.get("/").status == 200

    server = place.start_with(writing, "--user", account.name, "--workers", "1", "--listen", str(path), "site_app:app")
    try:
        assert wait_until(answered, 30)
        (worker,) = [pid for pid in children_of(server.pid) if identity(pid)[0] == {account.uid} and thread_count(pid) > 1]
        server.send_signal(signal.SIGHUP)
        assert wait_until(lambda: not Path(f"/proc/{worker}").exists(), 30)
        assert answered()
        os.close(writing)
        server.send_signal(signal.SIGTERM)
        with open(reading, "rb") as reader:
            text = reader.read().lstrip(b".").decode()
        assert server.wait(30) == 0
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
    assert "ready: 1 worker" in text
    assert "restarted: 1 worker is new" in text
    assert all(line.startswith("[") for line in text.splitlines())


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def thread_count(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/task"))


def test_the_temporary_directory_is_looked_for_as_the_user(place: Place, account: Account, started: list[Process]) -> None:
    private = place.directory / "roots-own"
    private.mkdir(mode=0o700)
    expected = f"temporary files will be in /tmp, because these places cannot be used: TMPDIR={private} (Permission denied)"
    arguments = ("--workers", "1", "--user", account.name, "--listen", f"@{account.name}-temporary", "site_app:app")
    server = place.start(*arguments, TMPDIR=str(private))
    started.append(server)
    server.wait_for("ready: ", 30)
    assert server.log.count(expected) == 1
    assert server.stop() == 0
    check = place.start("--check", *arguments, TMPDIR=str(private))
    started.append(check)
    assert check.wait() == 0, check.log
    assert check.log.count(expected) == 1


def test_check_loads_the_application_as_the_user(place: Place, account: Account, started: list[Process]) -> None:
    loading = "import os\nprint('loaded by', os.geteuid(), os.getuid())\n"
    (place.site / "who_app.py").write_text(loading + APPLICATION)
    check = place.start("--check", "--user", account.name, "--listen", "127.0.0.1:0", "who_app:app")
    started.append(check)
    assert check.wait() == 0, check.log
    assert f"loaded by {account.uid} {account.uid}\n" in check.log


LIMITED = """\
import resource

def app(environ, start_response):
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    if environ["PATH_INFO"] == "/limit":
        resource.setrlimit(resource.RLIMIT_NPROC, (1, hard))
    elif environ["PATH_INFO"] == "/free":
        resource.setrlimit(resource.RLIMIT_NPROC, (hard, hard))
    start_response("200 OK", [])
    return [b"%d" % len(environ["wsgi.input"].read())]
"""


def test_a_body_is_refused_while_the_system_starts_no_thread(place: Place, account: Account, started: list[Process]) -> None:
    """RLIMIT_NPROC, which the kernel does not hold root to."""
    (place.site / "limited_app.py").write_text(LIMITED)
    path = place.site / "limited.sock"
    server = place.start("limited_app:app", "--workers", "1", "--user", account.name, "--listen", str(path))
    started.append(server)
    server.wait_for("ready: ", 30)
    body = bytes(2_000_000)  # beyond body_buffer: a thread writes it to the disk
    with Client(str(path)) as client:
        assert client.get("/limit").status == 200
        with Client(str(path)) as uploading:
            assert uploading.request("POST", "/", body=body).status == 503
        assert client.get("/free").status == 200
        with Client(str(path)) as uploading:
            assert uploading.request("POST", "/", body=body).body == b"2000000"
    server.wait_for("503 no thread can be started to store the body")
    assert server.log.count("ready: ") == 1
    assert "Traceback" not in server.log
    assert server.stop() == 0


SPINNING = (Path(__file__).parent / "support" / "descriptors.py").read_text()
CHANGED = "os.setgid({gid})\nos.setuid({uid})\n"
CHANGED_LATER = "@hooks.after_fork\ndef change() -> None:\n    os.setgid({gid})\n    os.setuid({uid})\n"


@pytest.mark.parametrize(
    ("arguments", "change"),
    [
        (["--user", "{name}", "--no-preload-app"], ""),
        (["--user", "{name}", "--preload-app"], ""),
        (["--no-preload-app"], CHANGED),
        (["--preload-app"], CHANGED_LATER),
    ],
)
def test_a_loop_that_spins_is_found_whichever_user_the_worker_runs_as(
    account: Account, place: Place, started: list[Process], arguments: list[str], change: str
) -> None:
    """Linux lets only root open the figures of a process that has changed its user."""
    server, pid = start_spinning(account, place, started, arguments, change)
    server.wait_for(rf"\[{pid}\] \[ERROR\] this worker cannot continue, .*: its loop has used \d+ % of a CPU", timeout=60)
    server.wait_for(rf"worker 1 \({pid}\) is replaced: its loop has used \d+ % of a CPU", timeout=30)
    assert server.stop() == 0


def test_a_loop_that_may_spin_is_logged_where_only_root_may_tell(account: Account, place: Place, started: list[Process]) -> None:
    """The application changes its user while it is preloaded: the worker begins without the right."""
    server, pid = start_spinning(account, place, started, ["--preload-app"], CHANGED)
    server.wait_for(
        rf"\[{pid}\] \[WARNING\] this worker may spin: its loop has used \d+ % of a CPU for \d+ s, "
        r"and almost no request has ended. It is not replaced, because /proc/thread-self/io cannot be read: Permission denied ",
        timeout=60,
    )
    assert server.stop() == 0


def start_spinning(
    account: Account, place: Place, started: list[Process], arguments: list[str], change: str
) -> tuple[Process, str]:
    """A server with one worker, the loop of which spins, and the worker's pid. `change` is code at the end of its
    application."""
    (place.site / "spinning_app.py").write_text(SPINNING + change.format(uid=account.uid, gid=account.gid))
    path = place.site / "spinning.sock"
    options = ["--workers", "1", "--graceful-timeout", "3", "--listen", str(path)]
    chosen = [text.format(name=account.name) for text in arguments]
    server = place.start(*options, *chosen, "spinning_app:app")
    started.append(server)
    server.wait_for("ready: ", 30)
    with Client(str(path)) as client:
        pid = client.get("/spin").body.decode()
    (uid, *others), _, _ = identity(int(pid))
    assert (uid, others) == (account.uid, [])
    return server, pid


def test_the_user_of_the_service_commands_it_and_others_do_not(account: Account, place: Place, started: list[Process]) -> None:
    options = ["--user", account.name, "--workers", "1", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
    server = place.start(*options, "site_app:app")
    started.append(server)
    server.wait_for("ready: 1 worker")
    number = ["--pid", str(server.pid)]
    # In the group of the service, and in another one: then the system hides which files the service has open.
    for group in (account.gid, 65534):
        done = place.run_as(account.uid, group, "status")
        assert f"master {server.pid}, up " in done.stdout, done.stderr
        assert place.run_as(account.uid, group, "stacks", *number).stdout.startswith("worker 1 (")
    done = place.run_as(65534, 65534, "status", *number)
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        f"starman: starman {server.pid} runs as another user: only that user and root may use its control socket\n",
    )
    assert place.run_as(65534, 65534, "status").returncode == 1
    done = place.run_as(account.uid, account.gid, "reload", *number)
    assert done.stdout.startswith("restarted: 1 new worker serves"), done.stderr
    assert place.run_as(0, 0, "status", *number).returncode == 0
    assert place.run_as(account.uid, account.gid, "stop", *number).returncode == 0
    assert server.wait() == 0
