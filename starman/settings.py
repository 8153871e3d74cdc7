"""The one table of settings, and the frozen values of it that one server runs with.

The command line, the STARMAN_* variables, the TOML file, `run(**settings)`, `--help` and docs/settings.md are all derived
from the class body of `Settings`. Reads no argv, environment or file (`sources.py` does). Imported by the master.
"""

from __future__ import annotations

from starman import values
from starman.addresses import Address, parse_address, tcp_address, unix_address
from starman.declaration import DEFAULT_SOURCE, SETTINGS, Given, Setting, nearest, setting
from starman.errors import SettingError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_PORT", "DEFAULT_SOURCE", "SETTINGS", "Given", "Setting", "Settings", "nearest"]

DEFAULT_PORT = 5000


class Settings:
    """The values of every setting, checked and frozen. Any thread may read them.

    Construction raises SettingError for an unknown name, an invalid value, or two settings that exclude each other.
    """

    __slots__ = ("_sources", "_values")

    _sources: dict[str, str]
    _values: dict[str, object]

    app: str | None = setting(
        None,
        "Application",
        values.text("module:app, module, module:factory() or a file", "APPLICATION"),
        "The WSGI application: module:app, module, module:factory(), or a file (dir/file.py:app). "
        "Without one: app.py, wsgi.py, or the Django project of the working directory.",
    )
    eval: str | None = setting(
        None,
        "Application",
        values.EXPRESSION,
        "An inline application: a Python expression, with the modules of --modules in its reach.",
        ("-e",),
    )
    include: tuple[str, ...] = setting((), "Application", values.DIRECTORIES, "Put a directory first on sys.path.", ("-I",))
    modules: tuple[str, ...] = setting((), "Application", values.MODULES, "Import a module before the application.", ("-M",))
    path: str = setting("", "Application", values.PREFIX, "Mount the application under this prefix (its SCRIPT_NAME).")
    preload_app: bool = setting(
        False,
        "Application",
        values.FLAG,
        "Load the application once, before the workers are forked: they share its memory, and start at once.",
    )
    warm_up: tuple[str, ...] = setting(
        (),
        "Application",
        values.TARGETS,
        "Ask the application for this path, as a client would, before its workers serve: with --preload-app once, where it is "
        "loaded, else in each worker. An answer of 500 or above fails the start.",
    )

    listen: tuple[str, ...] = setting(
        (f":{DEFAULT_PORT}",),
        "Listening",
        values.many(values.LISTEN),
        "Where to listen: HOST:PORT, :PORT (every IPv4 interface), [IPv6]:PORT, *:PORT (IPv4 and IPv6), each also with "
        ":ssl behind it (TLS); a UNIX path, @NAME (abstract), or fd://N (inherited).",
        ("-l",),
    )
    host: str | None = setting(
        None,
        "Listening",
        values.text("a host name or an IP address", "HOST"),
        "The interface to listen on, without --listen.",
        ("-o",),
    )
    port: int | None = setting(
        None,
        "Listening",
        values.whole(0, 65535, "PORT"),
        f"The port to listen on, without --listen: {DEFAULT_PORT} if only --host is given. 0: the system chooses.",
        ("-p",),
    )
    socket: str | None = setting(
        None,
        "Listening",
        values.text("the path of a UNIX socket", "PATH"),
        "The UNIX socket to listen on, without --listen.",
        ("-S",),
    )
    backlog: int = setting(
        2048,
        "Listening",
        values.whole(1, unit="connections"),
        "Connections that wait to be accepted, for each listener. The kernel may allow fewer.",
    )
    socket_mode: int | None = setting(None, "Listening", values.MODE, "Permissions of UNIX sockets. None: as the umask says.")
    socket_group: str | int | None = setting(None, "Listening", values.GROUP, "Group of UNIX sockets. None: the process's own.")

    ssl_cert: str | None = setting(
        None,
        "TLS",
        values.text("a file in PEM format", "FILE"),
        "The certificate of TLS listeners, and behind it those that lead to a known authority. SIGHUP has it read again.",
    )
    ssl_key: str | None = setting(
        None,
        "TLS",
        values.text("a file in PEM format", "FILE"),
        "The private key of the certificate, without a passphrase. None: it is in the certificate's file.",
    )
    enable_ssl: bool = setting(False, "TLS", values.FLAG, "Speak TLS on every TCP listener, as if each had :ssl behind it.")
    ssl_handshake_timeout: float = setting(
        10, "TLS", values.SOME_SECONDS, "How long a TLS handshake may take, from the connect to its end."
    )

    workers: int = setting(
        "auto", "Workers", values.WORKERS, "Worker processes. auto: the CPUs this container may use, at least 2."
    )
    threads: int = setting(4, "Workers", values.whole(1, unit="threads"), "Threads of each worker that run the application.")
    graceful_timeout: float = setting(
        30,
        "Workers",
        values.ANY_SECONDS,
        "How long a stopping worker may take to finish what is in flight. 0: it is cut at once.",
    )
    boot_timeout: float = setting(
        60, "Workers", values.SOME_SECONDS, "How long a worker may take to load the application and be ready."
    )
    worker_timeout: float = setting(
        30,
        "Workers",
        values.ANY_SECONDS,
        "How long a worker's event loop may be silent before the worker is killed and replaced, its stacks in the error log. "
        "Requests may take longer: they run in threads. 0: for ever.",
    )
    max_requests: int = setting(
        0, "Workers", values.whole(0, unit="requests"), "Replace a worker that has served this many requests. 0: no limit."
    )
    max_requests_jitter: int = setting(
        0,
        "Workers",
        values.whole(0, unit="requests"),
        "Add a random number up to this to --max-requests, for each worker another, so that they do not all go together.",
    )
    max_worker_lifetime: float = setting(
        0,
        "Workers",
        values.ANY_SECONDS,
        "Replace a worker before it reaches this age, at random in the last tenth of it. 0: no limit.",
    )
    max_worker_memory: int = setting(
        "0",
        "Workers",
        values.size(0),
        "Replace a worker that holds this much memory of its own: what it shares with other workers does not count. 0: no limit.",
    )

    keepalive_timeout: float = setting(
        65,
        "Connections",
        values.ANY_SECONDS,
        "How long an idle connection is kept for its next request. 0: as --disable-keepalive.",
    )
    disable_keepalive: bool = setting(False, "Connections", values.FLAG, "Close every connection after one response.")
    header_timeout: float = setting(
        30,
        "Connections",
        values.SOME_SECONDS,
        "How long a request's head may take, from its first byte to its last.",
        ("--read-timeout",),
    )
    write_timeout: float = setting(60, "Connections", values.SOME_SECONDS, "How long a response may make no progress.")
    min_body_rate: int = setting(
        "500",
        "Connections",
        values.size(0),
        "How fast a request's body must come on average, each second, once 10 s have passed. 0: as slow as it likes.",
    )
    min_send_rate: int = setting(
        "500",
        "Connections",
        values.size(0),
        "How fast a client must read a response that waits for it, each second, once 10 s have passed. 0: as slow as it likes.",
    )
    body_buffer: int = setting(
        "1M", "Connections", values.size(0), "Request bodies up to this size stay in memory; larger ones go to a temporary file."
    )
    stream_body: bool = setting(
        False,
        "Connections",
        values.FLAG,
        "Call the application when a request's head is there, and let it read the body as it comes. "
        "A slow client then holds a thread.",
    )
    stream_body_path: tuple[str, ...] = setting(
        (),
        "Connections",
        values.PATHS,
        "As --stream-body, for requests of this path and of all below it. The path is that of the URL, --path included.",
    )

    server_header: str = setting(
        "starman",
        "Connections",
        values.SERVER_HEADER,
        "The Server field of responses that bring none of their own. off: no such field.",
    )

    limit_request_line: int = setting(8190, "Limits", values.size(1), "Longest request line.")
    limit_request_fields: int = setting(100, "Limits", values.whole(1, unit="fields"), "Most fields in a request's head.")
    limit_request_field_size: int = setting(8190, "Limits", values.size(1), "Longest field of a request: its name and value.")
    limit_request_head: int = setting(65536, "Limits", values.size(1), "Largest head of a request, in all.")
    max_body: int = setting("1G", "Limits", values.size(0), "Largest body of a request. 0: no limit.")

    error_log: str | None = setting(
        None, "Logs", values.ERROR_LOG, "File to append errors and events to. None, or -: standard error."
    )
    access_log: str = setting(
        "off", "Logs", values.ACCESS_LOG, "File for the access log, in combined format. -: standard output."
    )

    chdir: str | None = setting(
        None,
        "Process",
        values.text("a directory", "DIR"),
        "Change to this directory first: what is relative means in there, but for --config and the file of settings.",
    )
    umask: int | None = setting(None, "Process", values.MODE, "Permissions that new files lack. None: as it is.")
    pid: str | None = setting(
        None,
        "Process",
        values.text("a file", "FILE"),
        "File for the master's process id. One of a live process ends the start; it is removed at the end.",
    )
    daemonize: bool = setting(
        False,
        "Process",
        values.FLAG,
        "Run in the background, without a terminal. The command returns when the server is ready, or has failed.",
        ("-D",),
    )
    user: str | int | None = setting(
        None,
        "Process",
        values.USER,
        "Run as this user, with the groups it is in. Privileges are dropped once the listeners are bound. None: as it is.",
    )
    group: str | int | None = setting(None, "Process", values.GROUP, "Run as this group. None: the user's own, or as it is.")
    disable_proctitle: bool = setting(False, "Process", values.FLAG, "Leave the titles of the processes alone.")

    def __init__(self, given: Mapping[str, Given]) -> None:
        """Check `given` (at most one value a setting); what it lacks has its default."""
        for name, item in given.items():
            if name not in SETTINGS:
                raise SettingError(f"{item.source}: no setting is called {name!r}{nearest(name, SETTINGS)}")
        if "app" in given and "eval" in given and given["eval"].value is not None:
            raise SettingError(f"{given['app'].source} and {given['eval'].source}: give one application, not two")
        # Past the frozen attributes, by the only door there is.
        object.__setattr__(self, "_sources", {name: item.source for name, item in given.items()})
        parsed = {}
        for name, declared in SETTINGS.items():
            item = given.get(name) or Given(declared.default, DEFAULT_SOURCE)
            parsed[name] = declared.parse(item.value, item.source)
        _check_warm_up(parsed, given)
        if parsed["keepalive_timeout"] == 0:
            parsed["disable_keepalive"] = True
        object.__setattr__(self, "_values", parsed)
        # A host that is none shows here, not when the master is about to listen.
        secured = next((address for address in self.addresses() if address.secure), None)
        if secured is not None and self.ssl_cert is None:
            raise SettingError(f"TLS on {secured} needs a certificate: give ssl_cert (--ssl-cert FILE)")

    @classmethod
    def of(cls, **given: object) -> Settings:
        """Settings with these values, and defaults for all others. For tests and for callers without other sources."""
        return cls({name: Given(value, f"Settings.of({name}=...)") for name, value in given.items()})

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Settings are frozen: {name} cannot be set")

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={self._values[name]!r}' for name in self._sources)})"

    def value(self, name: str) -> object:
        """The value of the setting `name`, which must be one."""
        return self._values[name]

    def source(self, name: str) -> str:
        """Where the value of the setting `name` was written; "default" if nowhere."""
        return self._sources.get(name, DEFAULT_SOURCE)

    def addresses(self) -> tuple[Address, ...]:
        """Where to listen, in the order written, each once: `listen`; without it `socket`; without that `host` and `port`."""
        found = self._addresses()
        return tuple(dict.fromkeys(address.secured() for address in found)) if self.enable_ssl else found

    @property
    def listens_somewhere(self) -> bool:
        """Whether anybody has said where to listen."""
        return any(self.source(name) != DEFAULT_SOURCE for name in ("listen", "socket", "host", "port"))

    def _addresses(self) -> tuple[Address, ...]:
        if self.source("listen") == DEFAULT_SOURCE:
            try:
                if self.socket is not None:
                    return (_socket_address(self.socket),)
                if self.host is not None or self.port is not None:
                    return (tcp_address(self.host or "", DEFAULT_PORT if self.port is None else self.port),)
            except SettingError as error:
                name = "host" if self.socket is None else "socket"
                raise SettingError(f"{self.source(name)}: {error}; {name} takes {SETTINGS[name].kind.valid}") from None
        return tuple(dict.fromkeys(parse_address(text) for text in self.listen))

    def warnings(self) -> tuple[str, ...]:
        """What was given and has no effect, a line each, for the error log."""
        found = list(self._overruled())
        if not any(address.secure for address in self.addresses()):
            unused = [self.source(name) for name in ("ssl_cert", "ssl_key") if self.value(name) is not None]
            unused += [self.source("enable_ssl")] if self.enable_ssl else []
            if unused:
                found.append(f"no listener speaks TLS: {', '.join(unused)} without effect")
        if self.stream_body and self.stream_body_path:
            found.append(f"{self.source('stream_body_path')} has no effect beside {self.source('stream_body')}")
        return tuple(found)

    def _overruled(self) -> tuple[str, ...]:
        for winner, losers in (("listen", ("socket", "host", "port")), ("socket", ("host", "port"))):
            ignored = [self.source(name) for name in losers if self.value(name) is not None]
            if self.source(winner) != DEFAULT_SOURCE and ignored:
                verb = "has" if len(ignored) == 1 else "have"
                return (f"{', '.join(ignored)} {verb} no effect beside {self.source(winner)}",)
        return ()


def _check_warm_up(parsed: Mapping[str, object], given: Mapping[str, Given]) -> None:
    """Raises SettingError for a path that the mounted application would never be asked for."""
    prefix, targets = str(parsed["path"]), parsed["warm_up"]
    assert isinstance(targets, tuple)
    for target in targets:
        if not f"{target.partition('?')[0]}/".startswith(f"{prefix}/"):
            raise SettingError(
                f"{given['warm_up'].source}: warm_up {target} is not below {prefix}, where the application is mounted"
            )


def _socket_address(text: str) -> Address:
    """The address that `socket` means: a bare name is a path there, since nothing else could be meant."""
    if "/" in text or text.startswith(("unix:", "@")):
        return parse_address(text)
    return unix_address(text, text)
