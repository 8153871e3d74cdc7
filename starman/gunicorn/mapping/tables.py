"""What becomes of each setting of gunicorn for which `mapping` needs no function: tables, with the reasons."""

from __future__ import annotations

# How many arguments each hook takes; post_request may take two to four.
ARGUMENTS = {
    **dict.fromkeys(("on_starting", "when_ready", "on_reload", "on_exit", "pre_exec"), 1),
    **dict.fromkeys(("post_worker_init", "worker_int", "worker_abort"), 1),
    **dict.fromkeys(("pre_fork", "post_fork", "child_exit", "worker_exit", "pre_request", "ssl_context"), 2),
    "nworkers_changed": 3,
}
# The module of starman that calls the hooks, and the hooks that it calls.
HOOKS_MODULE = "starman.gunicorn.workers.hooks"
CALLED = (
    *("on_starting", "when_ready", "on_reload", "nworkers_changed", "child_exit", "on_exit"),
    *("pre_fork", "post_fork", "post_worker_init", "worker_int", "worker_abort", "worker_exit"),
    *("pre_request", "post_request"),
)
# The settings whose value is taken as it is, by starman's name.
SAME = {
    "graceful_timeout": "graceful_timeout",
    "keepalive": "keepalive_timeout",
    "max_requests": "max_requests",
    "max_requests_jitter": "max_requests_jitter",
    "preload_app": "preload_app",
    "chdir": "chdir",
    "pidfile": "pid",
    "daemon": "daemonize",
    "proc_name": "proc_name",
    "forwarder_headers": "forwarder_headers",
    "header_map": "header_map",
    "reload_extra_files": "reload_extra_files",
    "statsd_host": "statsd_host",
    "statsd_prefix": "statsd_prefix",
    "dogstatsd_tags": "dogstatsd_tags",
    "enable_backlog_metric": "enable_backlog_metric",
}
# The defaults of gunicorn that count, because those of starman differ.
DEFAULTS = ("bind", "workers", "worker_class", "keepalive", "limit_request_line", "forwarder_headers")

HARMLESS = {
    "umask": "it counts for the files of UNIX sockets only: see bind",
    "worker_connections": "starman limits connections by the descriptors that are free (max_connections)",
    "worker_tmp_dir": "starman writes no heartbeat to a file",
    "tmp_upload_dir": "temporary files are in the directory that TMPDIR names",
    "sendfile": "starman uses sendfile for wsgi.file_wrapper",
    "reuse_port": "workers share one listener, and each connection wakes one of them",
    "initgroups": "with user, the groups of the user are always used",
    "enable_stdio_inheritance": "standard output and standard error are always inherited",
    "disable_redirect_access_to_syslog": "the access log goes to the file of accesslog only",
    "default_proc_name": "an internal setting of gunicorn",
    "ssl_version": "it has no effect in gunicorn either",
    "suppress_ragged_eofs": "the end of a TLS connection is never an error for the application",
    "do_handshake_on_connect": "the handshake never blocks a worker",
    "ca_certs": "clients are not asked for a certificate",
    "control_socket": "the address is abstract, so there is no file (a setting of starman: control)",
    "control_socket_mode": "the address is abstract, so there is no file (a setting of starman: control)",
    "http_parser": "starman has one parser",
    "websocket_max_message_size": "for ASGI workers",
    "asgi_loop": "for ASGI workers",
    "asgi_lifespan": "for ASGI workers",
    "asgi_disconnect_grace_period": "for ASGI workers",
    "root_path": "for ASGI workers",
    "uwsgi_allow_ips": "for the uwsgi protocol",
    "http2_cleartext": "for HTTP/2",
    "http2_max_concurrent_streams": "for HTTP/2",
    "http2_initial_window_size": "for HTTP/2",
    "http2_max_frame_size": "for HTTP/2",
    "http2_max_header_list_size": "for HTTP/2",
    "dirty_timeout": "for dirty workers",
    "dirty_threads": "for dirty workers",
    "dirty_graceful_timeout": "for dirty workers",
    "syslog_prefix": "for syslog",
    "syslog_facility": "for syslog",
    "syslog_addr": "for syslog",
    "raw_paste_global_conf": "used together with paste",
    "config": "its settings are listed here",
    "check_config": "an action",
    "print_config": "an action",
}
_LAX = "requests that gunicorn accepts with it are refused with 400"
UNSUPPORTED = {
    "spew": "starman has no trace of every line",
    "ciphers": "the ciphers are those of Python's defaults",
    "dirty_apps": "starman has no dirty workers",
    "dirty_workers": "starman has no dirty workers",
    "permit_obsolete_folding": _LAX,
    "strip_header_spaces": _LAX,
    "permit_unconventional_http_method": _LAX,
    "permit_unconventional_http_version": _LAX,
    "casefold_http_method": _LAX,
    "pre_exec": "an upgrade keeps the process, so no new master is forked",
    "on_dirty_starting": "starman has no dirty workers",
    "dirty_post_fork": "starman has no dirty workers",
    "dirty_worker_init": "starman has no dirty workers",
    "dirty_worker_exit": "starman has no dirty workers",
}
REFUSED = {
    "cert_reqs": "starman does not check certificates of clients; let the proxy in front do it",
    "ssl_context": "starman makes the context of TLS itself (TLS 1.2 or later); remove the function, or let a proxy do TLS",
}
