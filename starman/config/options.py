"""The one table of settings: each one's name, type, default, group, valid values, help and short option.

The command line, the STARMAN_* variables, the TOML file, `run(**settings)`, `--help` and docs/settings.md are all derived from
this class body. Imported by the master.
"""

from __future__ import annotations

from starman.config import kinds
from starman.config.option import setting

DEFAULT_PORT = 5000


class Table:
    """The declarations; what is given for them is in `Settings`."""

    __slots__ = ()

    app: str | None = setting(
        None,
        "Application",
        kinds.text("module:app, module, module:factory() or a file", "APPLICATION"),
        "The WSGI application: module:app, module, module:factory(), or a file (dir/file.py:app). "
        "Without one: app.py, wsgi.py, or the Django project of the working directory.",
    )
    eval: str | None = setting(
        None,
        "Application",
        kinds.EXPRESSION,
        "An inline application: a Python expression, with the modules of --modules in its reach.",
        ("-e",),
    )
    include: tuple[str, ...] = setting((), "Application", kinds.DIRECTORIES, "Put a directory first on sys.path.", ("-I",))
    modules: tuple[str, ...] = setting((), "Application", kinds.MODULES, "Import a module before the application.", ("-M",))
    path: str = setting("", "Application", kinds.PREFIX, "Mount the application under this prefix (its SCRIPT_NAME).")
    preload_app: bool = setting(
        False,
        "Application",
        kinds.FLAG,
        "Load the application once, before the workers are forked: they share its memory, and start at once.",
    )
    warm_up: tuple[str, ...] = setting(
        (),
        "Application",
        kinds.TARGETS,
        "Ask the application for this path, as a client would, before its workers serve: with --preload-app once, where it is "
        "loaded, else in each worker. An answer of 500 or above fails the start.",
    )

    listen: tuple[str, ...] = setting(
        (f":{DEFAULT_PORT}",),
        "Listening",
        kinds.many(kinds.LISTEN),
        "Where to listen: HOST:PORT, :PORT (every IPv4 interface), [IPv6]:PORT, *:PORT (IPv4 and IPv6), each also with "
        ":ssl behind it (TLS); a UNIX path, @NAME (abstract), or fd://N (inherited).",
        ("-l",),
        fixed=True,
    )
    host: str | None = setting(
        None,
        "Listening",
        kinds.text("a host name or an IP address", "HOST"),
        "The interface to listen on, without --listen.",
        ("-o",),
        fixed=True,
    )
    port: int | None = setting(
        None,
        "Listening",
        kinds.whole(0, 65535, "PORT"),
        f"The port to listen on, without --listen: {DEFAULT_PORT} if only --host is given. 0: the system chooses.",
        ("-p",),
        fixed=True,
    )
    socket: str | None = setting(
        None,
        "Listening",
        kinds.text("the path of a UNIX socket", "PATH"),
        "The UNIX socket to listen on, without --listen.",
        ("-S",),
        fixed=True,
    )
    backlog: int = setting(
        2048,
        "Listening",
        kinds.BACKLOG,
        "Connections that wait to be accepted, for each listener. The kernel may allow fewer.",
        fixed=True,
    )
    socket_mode: int | None = setting(
        None, "Listening", kinds.MODE, "Permissions of UNIX sockets. None: as the umask says.", fixed=True
    )
    socket_group: str | int | None = setting(
        None, "Listening", kinds.GROUP, "Group of UNIX sockets. None: the process's own.", fixed=True
    )

    ssl_cert: str | None = setting(
        None,
        "TLS",
        kinds.text("a file in PEM format", "FILE"),
        "The certificate of TLS listeners, and behind it those that lead to a known authority. SIGHUP has it read again.",
    )
    ssl_key: str | None = setting(
        None,
        "TLS",
        kinds.text("a file in PEM format", "FILE"),
        "The private key of the certificate, without a passphrase. None: it is in the certificate's file.",
    )
    enable_ssl: bool = setting(
        False, "TLS", kinds.FLAG, "Speak TLS on every TCP listener, as if each had :ssl behind it.", fixed=True
    )
    ssl_handshake_timeout: float = setting(
        10, "TLS", kinds.SOME_SECONDS, "How long a TLS handshake may take, from the connect to its end."
    )

    workers: int = setting(
        "auto", "Workers", kinds.WORKERS, "Worker processes. auto: the CPUs this container may use, at least 2."
    )
    threads: int = setting(
        4,
        "Workers",
        kinds.THREADS,
        "Threads of each worker that run the application. 0: its event loop runs it, so it must be fast and never block.",
    )
    graceful_timeout: float = setting(
        30,
        "Workers",
        kinds.ANY_SECONDS,
        "How long a stopping worker may take to finish what is in flight. 0: it is cut at once.",
    )
    restart_batch: int = setting(
        1, "Workers", kinds.whole(1, unit="workers"), "How many workers a restart (SIGHUP) replaces at a time."
    )
    boot_timeout: float = setting(
        60, "Workers", kinds.SOME_SECONDS, "How long a worker may take to load the application and be ready."
    )
    worker_timeout: float = setting(
        30,
        "Workers",
        kinds.ANY_SECONDS,
        "How long a worker's event loop may be silent before the worker is killed and replaced, its stacks in the error log. "
        "Requests may take longer: they run in threads, unless there are 0. 0: for ever.",
    )
    max_requests: int = setting(
        0, "Workers", kinds.whole(0, unit="requests"), "Replace a worker that has served this many requests. 0: no limit."
    )
    max_requests_jitter: int = setting(
        0,
        "Workers",
        kinds.whole(0, unit="requests"),
        "Add a random number up to this to --max-requests, for each worker another, so that they do not all go together.",
    )
    max_worker_lifetime: float = setting(
        0,
        "Workers",
        kinds.ANY_SECONDS,
        "Replace a worker before it reaches this age, at random in the last tenth of it. 0: no limit.",
    )
    max_worker_memory: int = setting(
        "0",
        "Workers",
        kinds.size(0),
        "Replace a worker that holds this much memory of its own: what it shares with other workers does not count. 0: no limit.",
    )

    max_connections: int = setting(
        "auto",
        "Connections",
        kinds.or_auto(kinds.whole(1, unit="connections")),
        "The most connections of a worker. Beyond that, a new connection replaces the one that has been idle longest; if none "
        "is idle, it waits. auto: the limit of open files less a reserve for the application, at most 65536.",
    )
    keepalive_timeout: float = setting(
        65,
        "Connections",
        kinds.ANY_SECONDS,
        "How long an idle connection is kept for its next request. 0: as --disable-keepalive.",
    )
    disable_keepalive: bool = setting(False, "Connections", kinds.FLAG, "Close every connection after one response.")
    header_timeout: float = setting(
        30,
        "Connections",
        kinds.SOME_SECONDS,
        "How long a request's head may take, from its first byte to its last.",
        ("--read-timeout",),
    )
    write_timeout: float = setting(60, "Connections", kinds.SOME_SECONDS, "How long a response may make no progress.")
    min_body_rate: int = setting(
        "500",
        "Connections",
        kinds.size(0),
        "How fast a request's body must come on average, each second, once 10 s have passed. 0: as slow as it likes.",
    )
    min_send_rate: int = setting(
        "500",
        "Connections",
        kinds.size(0),
        "How fast a client must read a response that waits for it, each second, once 10 s have passed. 0: as slow as it likes.",
    )
    body_buffer: int = setting(
        "1M", "Connections", kinds.size(0), "Request bodies up to this size stay in memory; larger ones go to a temporary file."
    )
    body_memory: int = setting(
        "64M",
        "Connections",
        kinds.size(0),
        "How much memory the request bodies of a worker may take together; when it is used up, they go to temporary files.",
    )
    response_buffer: int = setting(
        "1M", "Connections", kinds.size(0), "What is left of a response stays in memory up to this size; more goes to a file."
    )
    response_memory: int = setting(
        "64M",
        "Connections",
        kinds.size(0),
        "The most memory that the unread responses of a worker may take together; further ones go to temporary files.",
    )
    response_spool: int = setting(
        "1G", "Connections", kinds.size(0), "How large the file of a response that goes on may become before its client is cut."
    )
    spool_limit: int = setting(
        "auto",
        "Connections",
        kinds.or_auto(kinds.size(0)),
        "The most disk that the temporary files of a worker may take together, for bodies and responses. A body that needs more "
        "gets a 503, and a response that needs more is cut. auto: as much as they leave free. 0: no limit.",
    )
    stream_body: bool = setting(
        False,
        "Connections",
        kinds.FLAG,
        "Call the application when a request's head is there, and let it read the body as it comes. "
        "A slow client then holds a thread.",
    )
    stream_body_path: tuple[str, ...] = setting(
        (),
        "Connections",
        kinds.PATHS,
        "As --stream-body, for requests of this path and of all below it. The path is that of the URL, --path included.",
    )

    server_header: str = setting(
        "starman",
        "Connections",
        kinds.SERVER_HEADER,
        "The Server field of responses that bring none of their own. off: no such field.",
    )

    limit_request_line: int = setting(8190, "Limits", kinds.size(1), "Longest request line.")
    limit_request_fields: int = setting(100, "Limits", kinds.whole(1, unit="fields"), "Most fields in a request's head.")
    limit_request_field_size: int = setting(8190, "Limits", kinds.size(1), "Longest field of a request: its name and value.")
    limit_request_head: int = setting(65536, "Limits", kinds.size(1), "Largest head of a request, in all.")
    max_body: int = setting("1G", "Limits", kinds.size(0), "Largest body of a request. 0: no limit.")

    error_log: str | None = setting(
        None,
        "Logs",
        kinds.ERROR_LOG,
        "File to append errors and events to. None, or -: standard error.",
        fixed=True,
    )
    access_log: str = setting("off", "Logs", kinds.ACCESS_LOG, "File for the access log, in combined format. -: standard output.")

    chdir: str | None = setting(
        None,
        "Process",
        kinds.text("a directory", "DIR"),
        "Change to this directory first: what is relative means in there, but for --config and the file of settings.",
        fixed=True,
    )
    umask: int | None = setting(None, "Process", kinds.MODE, "Permissions that new files lack. None: as it is.", fixed=True)
    pid: str | None = setting(
        None,
        "Process",
        kinds.text("a file", "FILE"),
        "File for the master's process id. One of a live process ends the start; it is removed at the end.",
        fixed=True,
    )
    daemonize: bool = setting(
        False,
        "Process",
        kinds.FLAG,
        "Run in the background, without a terminal. The command returns when the server is ready, or has failed.",
        ("-D",),
        fixed=True,
    )
    user: str | int | None = setting(
        None,
        "Process",
        kinds.USER,
        "Run as this user, with the groups it is in. Privileges are dropped once the listeners are bound. None: as it is.",
        fixed=True,
    )
    group: str | int | None = setting(
        None, "Process", kinds.GROUP, "Run as this group. None: the user's own, or as it is.", fixed=True
    )
    disable_proctitle: bool = setting(False, "Process", kinds.FLAG, "Leave the titles of the processes alone.", fixed=True)
