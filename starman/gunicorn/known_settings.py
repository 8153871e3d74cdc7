"""The table of gunicorn's settings: the name, kind, default and options of each, as of gunicorn 27.

Functions and values of this machine have the default None.
"""

from __future__ import annotations

from starman.gunicorn.value_kinds import (
    ANY,
    BINDS,
    CLASS,
    FILES,
    FLAG,
    FOLDER,
    GROUP,
    HOOK,
    LIST,
    MAPPING,
    NETWORKS,
    NUMBER,
    OCTAL,
    PROXY_PROTOCOL,
    TEXT,
    TEXTS,
    USER,
    Kind,
)

ACCESS_LOG_FORMAT = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"'
SECURE_SCHEME_HEADERS = {"X-FORWARDED-PROTOCOL": "ssl", "X-FORWARDED-PROTO": "https", "X-FORWARDED-SSL": "on"}
LOOPBACK = "127.0.0.1,::1"


class KnownSetting:
    """One setting of gunicorn. flags: its options on the command line; () if it has none."""

    __slots__ = ("default", "flags", "kind", "name")

    def __init__(self, name: str, kind: Kind, default: object, *flags: str) -> None:
        self.name = name
        self.kind = kind
        self.default = default
        self.flags = flags


_known = KnownSetting
_TABLE = (
    _known("config", TEXT, "./gunicorn.conf.py", "-c", "--config"),
    _known("wsgi_app", TEXT, None),
    _known("bind", BINDS, ["127.0.0.1:8000"], "-b", "--bind"),
    _known("backlog", NUMBER, 2048, "--backlog"),
    _known("workers", NUMBER, 1, "-w", "--workers"),
    _known("worker_class", CLASS, "sync", "-k", "--worker-class"),
    _known("threads", NUMBER, 1, "--threads"),
    _known("worker_connections", NUMBER, 1000, "--worker-connections"),
    _known("max_requests", NUMBER, 0, "--max-requests"),
    _known("max_requests_jitter", NUMBER, 0, "--max-requests-jitter"),
    _known("timeout", NUMBER, 30, "-t", "--timeout"),
    _known("graceful_timeout", NUMBER, 30, "--graceful-timeout"),
    _known("keepalive", NUMBER, 2, "--keep-alive"),
    _known("limit_request_line", NUMBER, 4094, "--limit-request-line"),
    _known("limit_request_fields", NUMBER, 100, "--limit-request-fields"),
    _known("limit_request_field_size", NUMBER, 8190, "--limit-request-field_size"),
    _known("reload", FLAG, False, "--reload"),
    _known("reload_engine", TEXT, "auto", "--reload-engine"),
    _known("reload_extra_files", FILES, [], "--reload-extra-file"),
    _known("spew", FLAG, False, "--spew"),
    _known("check_config", FLAG, False, "--check-config"),
    _known("print_config", FLAG, False, "--print-config"),
    _known("preload_app", FLAG, False, "--preload"),
    _known("sendfile", FLAG, None, "--no-sendfile"),
    _known("reuse_port", FLAG, False, "--reuse-port"),
    _known("chdir", FOLDER, None, "--chdir"),
    _known("daemon", FLAG, False, "-D", "--daemon"),
    _known("raw_env", TEXTS, [], "-e", "--env"),
    _known("pidfile", TEXT, None, "-p", "--pid"),
    _known("worker_tmp_dir", TEXT, None, "--worker-tmp-dir"),
    _known("user", USER, None, "-u", "--user"),
    _known("group", GROUP, None, "-g", "--group"),
    _known("umask", OCTAL, 0, "-m", "--umask"),
    _known("initgroups", FLAG, False, "--initgroups"),
    _known("tmp_upload_dir", TEXT, None),
    _known("secure_scheme_headers", MAPPING, SECURE_SCHEME_HEADERS),
    _known("forwarded_allow_ips", NETWORKS, LOOPBACK, "--forwarded-allow-ips"),
    _known("accesslog", TEXT, None, "--access-logfile"),
    _known("disable_redirect_access_to_syslog", FLAG, False, "--disable-redirect-access-to-syslog"),
    _known("access_log_format", TEXT, ACCESS_LOG_FORMAT, "--access-logformat"),
    _known("errorlog", TEXT, "-", "--error-logfile", "--log-file"),
    _known("loglevel", TEXT, "info", "--log-level"),
    _known("capture_output", FLAG, False, "--capture-output"),
    _known("logger_class", CLASS, "gunicorn.glogging.Logger", "--logger-class"),
    _known("logconfig", TEXT, None, "--log-config"),
    _known("logconfig_dict", MAPPING, {}),
    _known("logconfig_json", TEXT, None, "--log-config-json"),
    _known("syslog_addr", TEXT, "udp://localhost:514", "--log-syslog-to"),
    _known("syslog", FLAG, False, "--log-syslog"),
    _known("syslog_prefix", TEXT, None, "--log-syslog-prefix"),
    _known("syslog_facility", TEXT, "user", "--log-syslog-facility"),
    _known("enable_stdio_inheritance", FLAG, False, "-R", "--enable-stdio-inheritance"),
    _known("statsd_host", TEXT, None, "--statsd-host"),
    _known("dogstatsd_tags", TEXT, "", "--dogstatsd-tags"),
    _known("statsd_prefix", TEXT, "", "--statsd-prefix"),
    _known("enable_backlog_metric", FLAG, False, "--enable-backlog-metric"),
    _known("proc_name", TEXT, None, "-n", "--name"),
    _known("default_proc_name", TEXT, "gunicorn"),
    _known("pythonpath", TEXT, None, "--pythonpath"),
    _known("paste", TEXT, None, "--paste", "--paster"),
    _known("on_starting", HOOK, None),
    _known("on_reload", HOOK, None),
    _known("when_ready", HOOK, None),
    _known("pre_fork", HOOK, None),
    _known("post_fork", HOOK, None),
    _known("post_worker_init", HOOK, None),
    _known("worker_int", HOOK, None),
    _known("worker_abort", HOOK, None),
    _known("pre_exec", HOOK, None),
    _known("pre_request", HOOK, None),
    _known("post_request", HOOK, None),
    _known("child_exit", HOOK, None),
    _known("worker_exit", HOOK, None),
    _known("nworkers_changed", HOOK, None),
    _known("on_exit", HOOK, None),
    _known("ssl_context", HOOK, None),
    _known("proxy_protocol", PROXY_PROTOCOL, "off", "--proxy-protocol"),
    _known("proxy_allow_ips", NETWORKS, LOOPBACK, "--proxy-allow-from"),
    _known("protocol", TEXT, "http", "--protocol"),
    _known("uwsgi_allow_ips", NETWORKS, LOOPBACK, "--uwsgi-allow-from"),
    _known("keyfile", TEXT, None, "--keyfile"),
    _known("certfile", TEXT, None, "--certfile"),
    _known("ssl_version", ANY, None, "--ssl-version"),
    _known("cert_reqs", NUMBER, 0, "--cert-reqs"),
    _known("ca_certs", TEXT, None, "--ca-certs"),
    _known("suppress_ragged_eofs", FLAG, True, "--suppress-ragged-eofs"),
    _known("do_handshake_on_connect", FLAG, False, "--do-handshake-on-connect"),
    _known("ciphers", TEXT, None, "--ciphers"),
    _known("http_protocols", TEXT, "h1", "--http-protocols"),
    _known("http2_cleartext", ANY, "off", "--http2-cleartext"),
    _known("http2_max_concurrent_streams", NUMBER, 100, "--http2-max-concurrent-streams"),
    _known("http2_initial_window_size", NUMBER, 65535, "--http2-initial-window-size"),
    _known("http2_max_frame_size", NUMBER, 16384, "--http2-max-frame-size"),
    _known("http2_max_header_list_size", NUMBER, 65536, "--http2-max-header-list-size"),
    _known("raw_paste_global_conf", TEXTS, [], "--paste-global"),
    _known("permit_obsolete_folding", FLAG, False, "--permit-obsolete-folding"),
    _known("strip_header_spaces", FLAG, False, "--strip-header-spaces"),
    _known("permit_unconventional_http_method", FLAG, False, "--permit-unconventional-http-method"),
    _known("permit_unconventional_http_version", FLAG, False, "--permit-unconventional-http-version"),
    _known("casefold_http_method", FLAG, False, "--casefold-http-method"),
    _known("forwarder_headers", LIST, "SCRIPT_NAME,PATH_INFO", "--forwarder-headers"),
    _known("header_map", TEXT, "drop", "--header-map"),
    _known("asgi_loop", TEXT, "auto", "--asgi-loop"),
    _known("asgi_lifespan", TEXT, "auto", "--asgi-lifespan"),
    _known("asgi_disconnect_grace_period", NUMBER, 3, "--asgi-disconnect-grace-period"),
    _known("websocket_max_message_size", NUMBER, 16777216, "--websocket-max-message-size"),
    _known("http_parser", TEXT, "auto", "--http-parser"),
    _known("root_path", TEXT, "", "--root-path"),
    _known("dirty_apps", TEXTS, [], "--dirty-app"),
    _known("dirty_workers", NUMBER, 0, "--dirty-workers"),
    _known("dirty_timeout", NUMBER, 300, "--dirty-timeout"),
    _known("dirty_threads", NUMBER, 1, "--dirty-threads"),
    _known("dirty_graceful_timeout", NUMBER, 30, "--dirty-graceful-timeout"),
    _known("on_dirty_starting", HOOK, None),
    _known("dirty_post_fork", HOOK, None),
    _known("dirty_worker_init", HOOK, None),
    _known("dirty_worker_exit", HOOK, None),
    _known("control_socket", TEXT, None, "--control-socket"),
    _known("control_socket_mode", OCTAL, 0o600, "--control-socket-mode"),
    _known("control_socket_disable", FLAG, False, "--no-control-socket"),
)
# The classes of loggers that change nothing.
PLAIN_LOGGERS = ("gunicorn.glogging.Logger", "simple", "gunicorn.instrument.statsd.Statsd")
KNOWN_SETTINGS = {setting.name: setting for setting in _TABLE}
HOOKS = tuple(name for name, setting in KNOWN_SETTINGS.items() if setting.kind is HOOK)
