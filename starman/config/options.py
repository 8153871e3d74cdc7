"""The table of settings: the name, type, default, group, valid values, help and flags of each.

The command line, the STARMAN_* variables, the TOML file, `run(**settings)`, `--help` and docs/settings.md are all
derived from the bodies of `Options` and its base classes. The master imports this module.
"""

from __future__ import annotations

from starman.config import kinds
from starman.config.option import option, sort_by_group
from starman.config.tables.admin_options import AdminOptions
from starman.config.tables.development_options import DevelopmentOptions
from starman.config.tables.log_options import LogOptions
from starman.config.tables.observer_options import ObserverOptions
from starman.config.tables.process_options import ProcessOptions
from starman.config.tables.proxy_options import ProxyOptions
from starman.config.tables.request_options import RequestOptions

DEFAULT_PORT = 5000


class Options(LogOptions, ProxyOptions, DevelopmentOptions, ObserverOptions, ProcessOptions, RequestOptions, AdminOptions):
    """Declares every setting, some of them in its base classes. `Settings` has the values."""

    __slots__ = ()

    app: str | None = option(
        None,
        "Application",
        kinds.text("module:app, module, module:factory() or a file", "APPLICATION"),
        "Serve this WSGI application: module:app, module, module:factory(), or a file (dir/file.py:app). "
        "Without one: app.py, wsgi.py, or the Django project in the working directory.",
    )
    eval: str | None = option(
        None,
        "Application",
        kinds.EXPRESSION,
        "Serve the application that this Python expression gives. It can use the modules named by --modules.",
        ("-e",),
    )
    include: tuple[str, ...] = option((), "Application", kinds.DIRECTORIES, "Put this directory first on sys.path.", ("-I",))
    modules: tuple[str, ...] = option((), "Application", kinds.MODULES, "Import this module before the application.", ("-M",))
    env: tuple[str, ...] = option(
        (),
        "Application",
        kinds.ASSIGNMENTS,
        "Set this environment variable, NAME=VALUE, before the application is loaded. starman itself does not read it.",
    )
    unset_env: tuple[str, ...] = option(
        (),
        "Application",
        kinds.VARIABLES,
        "Remove this environment variable before the application is loaded. --env may set it again.",
    )
    hooks: str | None = option(
        None,
        "Application",
        kinds.text("module, or a file", "MODULE"),
        "Import this module (package.module) or file (dir/file.py) before the application, in each worker and in a process "
        "for the hooks of the server: starting, ready, worker_lost and others.",
    )
    path: str = option(
        "", "Application", kinds.PREFIX, "Mount the application under this URL prefix, which becomes its SCRIPT_NAME."
    )
    preload_app: bool = option(
        False,
        "Application",
        kinds.FLAG,
        "Load the application once, before the workers are forked. They share its memory and start quickly.",
    )
    warm_up: tuple[str, ...] = option(
        (),
        "Application",
        kinds.TARGETS,
        "Send the application a GET request for this path before its workers serve: once with --preload-app, else in each "
        "worker. A status of 500 or above fails the start.",
    )

    listen: tuple[str, ...] = option(
        (f":{DEFAULT_PORT}",),
        "Listening",
        kinds.many(kinds.LISTEN),
        "Listen on this address: HOST:PORT, :PORT (every IPv4 interface), [IPv6]:PORT or *:PORT (IPv4 and IPv6), each "
        "with :ssl appended for TLS; the path of a UNIX socket, @NAME (abstract), or fd://N (inherited).",
        ("-l",),
        fixed=True,
    )
    host: str | None = option(
        None,
        "Listening",
        kinds.text("a host name or an IP address", "HOST"),
        "Listen on this interface. Ignored with --listen or --socket.",
        ("-o",),
        fixed=True,
    )
    port: int | None = option(
        None,
        "Listening",
        kinds.whole(0, 65535, "PORT"),
        f"Listen on this port; {DEFAULT_PORT} if only --host is given. 0: the system chooses one. Ignored with --listen or "
        "--socket.",
        ("-p",),
        fixed=True,
    )
    socket: str | None = option(
        None,
        "Listening",
        kinds.text("the path of a UNIX socket", "PATH"),
        "Listen on this UNIX socket. Ignored with --listen.",
        ("-S",),
        fixed=True,
    )
    backlog: int = option(
        2048,
        "Listening",
        kinds.BACKLOG,
        "Queue at most this many connections per listener until a worker accepts them. The kernel may allow fewer.",
        fixed=True,
    )
    socket_mode: int | None = option(
        None, "Listening", kinds.MODE, "Set the permissions of UNIX sockets (octal). None: by the umask.", fixed=True
    )
    socket_group: str | int | None = option(
        None, "Listening", kinds.GROUP, "Set the group of UNIX sockets. None: the group of the process.", fixed=True
    )

    ssl_cert: str | None = option(
        None,
        "TLS",
        kinds.text("a file in PEM format", "FILE"),
        "Use this certificate for TLS listeners. Intermediate certificates follow it in the file. SIGHUP reads it again.",
    )
    ssl_key: str | None = option(
        None,
        "TLS",
        kinds.text("a file in PEM format", "FILE"),
        "Use this private key for the certificate. It must have no passphrase. None: the key is in the file of the certificate.",
    )
    enable_ssl: bool = option(
        False, "TLS", kinds.FLAG, "Use TLS on every TCP listener, as if each address ended in :ssl.", fixed=True
    )
    ssl_handshake_timeout: float = option(
        10, "TLS", kinds.SOME_SECONDS, "Close a connection whose TLS handshake takes longer than this (seconds)."
    )

    workers: int = option(
        "auto",
        "Workers",
        kinds.WORKERS,
        "Run this many worker processes. auto: one for each available CPU, at least 2; CPU quotas of containers count.",
    )
    threads: int = option(
        4,
        "Workers",
        kinds.THREADS,
        "Run the application in this many threads per worker. 0: in the event loop, so it must be fast and never block.",
    )
    graceful_timeout: float = option(
        30,
        "Workers",
        kinds.ANY_SECONDS,
        "Give a stopping worker this long to finish the requests in flight (seconds). 0: abort them at once.",
    )
    restart_batch: int = option(
        1, "Workers", kinds.whole(1, unit="workers"), "Replace this many workers at a time in a restart (SIGHUP)."
    )
    boot_timeout: float = option(
        60,
        "Workers",
        kinds.SOME_SECONDS,
        "Kill a worker that needs longer than this to load the application and be ready (seconds).",
    )
    worker_timeout: float = option(
        30,
        "Workers",
        kinds.ANY_SECONDS,
        "Kill and replace a worker whose event loop does not run for this long (seconds), and write its stacks to the error "
        "log. Requests may take longer, because they run in threads; with --threads 0 they may not. 0: never.",
    )
    max_requests: int = option(
        0,
        "Workers",
        kinds.whole(0, unit="requests").with_zero("never"),
        "Replace a worker after it has served this many requests.",
    )
    max_requests_jitter: int = option(
        0,
        "Workers",
        kinds.whole(0, unit="requests").with_zero("no jitter"),
        "Add a random number of requests, up to this one, to --max-requests in each worker, so that workers are not replaced "
        "all at once.",
    )
    max_worker_lifetime: float = option(
        0,
        "Workers",
        kinds.seconds(zero=True).with_zero("never"),
        "Replace a worker before it reaches this age (seconds), at a random moment in the last tenth of it.",
    )
    max_worker_memory: int = option(
        "0",
        "Workers",
        kinds.size(0).with_zero("never"),
        "Replace a worker that uses this much memory (bytes). Memory shared with other workers does not count.",
    )

    max_connections: int = option(
        "auto",
        "Connections",
        kinds.or_auto(kinds.whole(1, unit="connections")),
        "Keep at most this many connections open per worker. Beyond that, a new connection replaces the one that has been "
        "idle longest; if none is idle, it waits. auto: the limit of open files minus a reserve for the application, at most "
        "65536.",
    )
    keepalive_timeout: float = option(
        65,
        "Connections",
        kinds.ANY_SECONDS,
        "Close a connection that stays idle this long between requests (seconds). 0: same as --disable-keepalive.",
    )
    disable_keepalive: bool = option(False, "Connections", kinds.FLAG, "Close each connection after one response.")
    header_timeout: float = option(
        30,
        "Connections",
        kinds.SOME_SECONDS,
        "Answer 408 if the head of a request takes longer than this from its first byte to its last (seconds).",
        ("--read-timeout",),
    )
    write_timeout: float = option(
        60, "Connections", kinds.SOME_SECONDS, "Close a connection whose response makes no progress for this long (seconds)."
    )
    min_body_rate: int = option(
        "500",
        "Connections",
        kinds.size(0, "bytes per second"),
        "Answer 408 if the body of a request arrives slower than this on average after the first 10 s (bytes per second). 0: no "
        "minimum.",
    )
    min_send_rate: int = option(
        "500",
        "Connections",
        kinds.size(0, "bytes per second"),
        "Close a connection whose client reads a waiting response slower than this on average after the first 10 s (bytes per "
        "second). 0: no minimum.",
    )
    body_buffer: int = option(
        "1M",
        "Connections",
        kinds.size(0),
        "Keep request bodies up to this size in memory (bytes); write larger ones to temporary files.",
    )
    body_memory: int = option(
        "64M",
        "Connections",
        kinds.size(0),
        "Limit the memory that all request bodies of a worker use together (bytes). Bodies beyond it are written to temporary "
        "files.",
    )
    response_buffer: int = option(
        "1M",
        "Connections",
        kinds.size(0),
        "Keep the unsent part of a response in memory up to this size (bytes); write a larger one to a temporary file.",
    )
    response_memory: int = option(
        "64M",
        "Connections",
        kinds.size(0),
        "Limit the memory that the unsent responses of a worker use together (bytes). Responses beyond it are written to "
        "temporary files.",
    )
    response_spool: int = option(
        "1G",
        "Connections",
        kinds.size(0),
        "Limit the temporary file of a response that the application is still producing (bytes). Beyond it, the connection is "
        "reset.",
    )
    spool_limit: int = option(
        "auto",
        "Connections",
        kinds.or_auto(kinds.size(0)),
        "Limit the disk space that the temporary files of a worker use together (bytes). A request body that needs more is "
        "refused with 503; for a response that needs more, the connection is reset. auto: as much as remains free. 0: no limit.",
    )
    stream_body: bool = option(
        False,
        "Connections",
        kinds.FLAG,
        "Call the application when the head of a request is complete, and let it read the body as it arrives. "
        "A slow client then occupies a thread.",
    )
    stream_body_path: tuple[str, ...] = option(
        (),
        "Connections",
        kinds.PATHS,
        "Do the same as --stream-body for requests of this URL path and all paths below it. It includes the prefix of --path.",
    )

    server_header: str = option(
        "starman",
        "Connections",
        kinds.SERVER_HEADER,
        "Send this Server field in responses that have none. off: send none.",
    )

    limit_request_line: int = option(8190, "Limits", kinds.size(1), "Refuse a longer request line with 414 (bytes).")
    limit_request_fields: int = option(
        100, "Limits", kinds.whole(1, unit="fields"), "Refuse a request with more fields with 431."
    )
    limit_request_field_size: int = option(
        8190, "Limits", kinds.size(1), "Refuse a request with a longer field line with 431 (bytes)."
    )
    limit_request_head: int = option(65536, "Limits", kinds.size(1), "Refuse a request with a larger head with 431 (bytes).")
    max_body: int = option("1G", "Limits", kinds.size(0), "Refuse a request with a larger body with 413 (bytes). 0: no limit.")


sort_by_group()
