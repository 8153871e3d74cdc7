"""The one table of settings: each one's name, type, default, group, valid values, help and short option.

The command line, the STARMAN_* variables, the TOML file, `run(**settings)`, `--help` and docs/settings.md are all derived from
this class body. Imported by the master.
"""

from __future__ import annotations

from starman.config import kinds
from starman.config.option import option

DEFAULT_PORT = 5000


class Options:
    """The declarations; what is given for them is in `Settings`."""

    __slots__ = ()

    app: str | None = option(
        None,
        "Application",
        kinds.text("module:app, module, module:factory() or a file", "APPLICATION"),
        "The WSGI application: module:app, module, module:factory(), or a file (dir/file.py:app). "
        "Without one: app.py, wsgi.py, or the Django project of the working directory.",
    )
    eval: str | None = option(
        None,
        "Application",
        kinds.EXPRESSION,
        "An inline application: a Python expression, with the modules of --modules in its reach.",
        ("-e",),
    )
    include: tuple[str, ...] = option((), "Application", kinds.DIRECTORIES, "Put a directory first on sys.path.", ("-I",))
    modules: tuple[str, ...] = option((), "Application", kinds.MODULES, "Import a module before the application.", ("-M",))
    path: str = option("", "Application", kinds.PREFIX, "Mount the application under this prefix (its SCRIPT_NAME).")
    preload_app: bool = option(
        False,
        "Application",
        kinds.FLAG,
        "Load the application once, before the workers are forked: they share its memory, and start at once.",
    )
    warm_up: tuple[str, ...] = option(
        (),
        "Application",
        kinds.TARGETS,
        "Ask the application for this path, as a client would, before its workers serve: with --preload-app once, where it is "
        "loaded, else in each worker. An answer of 500 or above fails the start.",
    )

    listen: tuple[str, ...] = option(
        (f":{DEFAULT_PORT}",),
        "Listening",
        kinds.many(kinds.LISTEN),
        "Where to listen: HOST:PORT, :PORT (every IPv4 interface), [IPv6]:PORT, *:PORT (IPv4 and IPv6), each also with "
        ":ssl behind it (TLS); a UNIX path, @NAME (abstract), or fd://N (inherited).",
        ("-l",),
        fixed=True,
    )
    host: str | None = option(
        None,
        "Listening",
        kinds.text("a host name or an IP address", "HOST"),
        "The interface to listen on, without --listen.",
        ("-o",),
        fixed=True,
    )
    port: int | None = option(
        None,
        "Listening",
        kinds.whole(0, 65535, "PORT"),
        f"The port to listen on, without --listen: {DEFAULT_PORT} if only --host is given. 0: the system chooses.",
        ("-p",),
        fixed=True,
    )
    socket: str | None = option(
        None,
        "Listening",
        kinds.text("the path of a UNIX socket", "PATH"),
        "The UNIX socket to listen on, without --listen.",
        ("-S",),
        fixed=True,
    )
    backlog: int = option(
        2048,
        "Listening",
        kinds.BACKLOG,
        "Connections that wait to be accepted, for each listener. The kernel may allow fewer.",
        fixed=True,
    )
    socket_mode: int | None = option(
        None, "Listening", kinds.MODE, "Permissions of UNIX sockets. None: as the umask says.", fixed=True
    )
    socket_group: str | int | None = option(
        None, "Listening", kinds.GROUP, "Group of UNIX sockets. None: the process's own.", fixed=True
    )

    ssl_cert: str | None = option(
        None,
        "TLS",
        kinds.text("a file in PEM format", "FILE"),
        "The certificate of TLS listeners, and behind it those that lead to a known authority. SIGHUP has it read again.",
    )
    ssl_key: str | None = option(
        None,
        "TLS",
        kinds.text("a file in PEM format", "FILE"),
        "The private key of the certificate, without a passphrase. None: it is in the certificate's file.",
    )
    enable_ssl: bool = option(
        False, "TLS", kinds.FLAG, "Speak TLS on every TCP listener, as if each had :ssl behind it.", fixed=True
    )
    ssl_handshake_timeout: float = option(
        10, "TLS", kinds.SOME_SECONDS, "How long a TLS handshake may take, from the connect to its end."
    )

    workers: int = option(
        "auto", "Workers", kinds.WORKERS, "Worker processes. auto: the CPUs this container may use, at least 2."
    )
    threads: int = option(
        4,
        "Workers",
        kinds.THREADS,
        "Threads of each worker that run the application. 0: its event loop runs it, so it must be fast and never block.",
    )
    graceful_timeout: float = option(
        30,
        "Workers",
        kinds.ANY_SECONDS,
        "How long a stopping worker may take to finish what is in flight. 0: it is cut at once.",
    )
    restart_batch: int = option(
        1, "Workers", kinds.whole(1, unit="workers"), "How many workers a restart (SIGHUP) replaces at a time."
    )
    boot_timeout: float = option(
        60, "Workers", kinds.SOME_SECONDS, "How long a worker may take to load the application and be ready."
    )
    worker_timeout: float = option(
        30,
        "Workers",
        kinds.ANY_SECONDS,
        "How long a worker's event loop may be silent before the worker is killed and replaced, its stacks in the error log. "
        "Requests may take longer: they run in threads, unless there are 0. 0: for ever.",
    )
    max_requests: int = option(
        0, "Workers", kinds.whole(0, unit="requests"), "Replace a worker that has served this many requests. 0: no limit."
    )
    max_requests_jitter: int = option(
        0,
        "Workers",
        kinds.whole(0, unit="requests"),
        "Add a random number up to this to --max-requests, for each worker another, so that they do not all go together.",
    )
    max_worker_lifetime: float = option(
        0,
        "Workers",
        kinds.ANY_SECONDS,
        "Replace a worker before it reaches this age, at random in the last tenth of it. 0: no limit.",
    )
    max_worker_memory: int = option(
        "0",
        "Workers",
        kinds.size(0),
        "Replace a worker that holds this much memory of its own: what it shares with other workers does not count. 0: no limit.",
    )

    max_connections: int = option(
        "auto",
        "Connections",
        kinds.or_auto(kinds.whole(1, unit="connections")),
        "The most connections of a worker. Beyond that, a new connection replaces the one that has been idle longest; if none "
        "is idle, it waits. auto: the limit of open files less a reserve for the application, at most 65536.",
    )
    keepalive_timeout: float = option(
        65,
        "Connections",
        kinds.ANY_SECONDS,
        "How long an idle connection is kept for its next request. 0: as --disable-keepalive.",
    )
    disable_keepalive: bool = option(False, "Connections", kinds.FLAG, "Close every connection after one response.")
    header_timeout: float = option(
        30,
        "Connections",
        kinds.SOME_SECONDS,
        "How long a request's head may take, from its first byte to its last.",
        ("--read-timeout",),
    )
    write_timeout: float = option(60, "Connections", kinds.SOME_SECONDS, "How long a response may make no progress.")
    min_body_rate: int = option(
        "500",
        "Connections",
        kinds.size(0),
        "How fast a request's body must come on average, each second, once 10 s have passed. 0: as slow as it likes.",
    )
    min_send_rate: int = option(
        "500",
        "Connections",
        kinds.size(0),
        "How fast a client must read a response that waits for it, each second, once 10 s have passed. 0: as slow as it likes.",
    )
    body_buffer: int = option(
        "1M", "Connections", kinds.size(0), "Request bodies up to this size stay in memory; larger ones go to a temporary file."
    )
    body_memory: int = option(
        "64M",
        "Connections",
        kinds.size(0),
        "How much memory the request bodies of a worker may take together; when it is used up, they go to temporary files.",
    )
    response_buffer: int = option(
        "1M", "Connections", kinds.size(0), "What is left of a response stays in memory up to this size; more goes to a file."
    )
    response_memory: int = option(
        "64M",
        "Connections",
        kinds.size(0),
        "The most memory that the unread responses of a worker may take together; further ones go to temporary files.",
    )
    response_spool: int = option(
        "1G", "Connections", kinds.size(0), "How large the file of a response that goes on may become before its client is cut."
    )
    spool_limit: int = option(
        "auto",
        "Connections",
        kinds.or_auto(kinds.size(0)),
        "The most disk that the temporary files of a worker may take together, for bodies and responses. A body that needs more "
        "gets a 503, and a response that needs more is cut. auto: as much as they leave free. 0: no limit.",
    )
    stream_body: bool = option(
        False,
        "Connections",
        kinds.FLAG,
        "Call the application when a request's head is there, and let it read the body as it comes. "
        "A slow client then holds a thread.",
    )
    stream_body_path: tuple[str, ...] = option(
        (),
        "Connections",
        kinds.PATHS,
        "As --stream-body, for requests of this path and of all below it. The path is that of the URL, --path included.",
    )

    server_header: str = option(
        "starman",
        "Connections",
        kinds.SERVER_HEADER,
        "The Server field of responses that bring none of their own. off: no such field.",
    )

    limit_request_line: int = option(8190, "Limits", kinds.size(1), "Longest request line.")
    limit_request_fields: int = option(100, "Limits", kinds.whole(1, unit="fields"), "Most fields in a request's head.")
    limit_request_field_size: int = option(8190, "Limits", kinds.size(1), "Longest field of a request: its name and value.")
    limit_request_head: int = option(65536, "Limits", kinds.size(1), "Largest head of a request, in all.")
    max_body: int = option("1G", "Limits", kinds.size(0), "Largest body of a request. 0: no limit.")

    error_log: str | None = option(
        None,
        "Logs",
        kinds.ERROR_LOG,
        "File to append errors and events to. None, or -: standard error.",
        fixed=True,
    )
    access_log: str = option("off", "Logs", kinds.ACCESS_LOG, "File for the access log, in combined format. -: standard output.")

    chdir: str | None = option(
        None,
        "Process",
        kinds.text("a directory", "DIR"),
        "Change to this directory first: what is relative means in there, but for --config and the file of settings.",
        fixed=True,
    )
    umask: int | None = option(None, "Process", kinds.MODE, "Permissions that new files lack. None: as it is.", fixed=True)
    pid: str | None = option(
        None,
        "Process",
        kinds.text("a file", "FILE"),
        "File for the master's process id. One of a live process ends the start; it is removed at the end.",
        fixed=True,
    )
    daemonize: bool = option(
        False,
        "Process",
        kinds.FLAG,
        "Run in the background, without a terminal. The command returns when the server is ready, or has failed.",
        ("-D",),
        fixed=True,
    )
    user: str | int | None = option(
        None,
        "Process",
        kinds.USER,
        "Run as this user, with the groups it is in. Privileges are dropped once the listeners are bound. None: as it is.",
        fixed=True,
    )
    group: str | int | None = option(
        None, "Process", kinds.GROUP, "Run as this group. None: the user's own, or as it is.", fixed=True
    )
    disable_proctitle: bool = option(False, "Process", kinds.FLAG, "Leave the titles of the processes alone.", fixed=True)
