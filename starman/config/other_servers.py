"""The option names of gunicorn, uvicorn and uWSGI, and what to write for them on starman's own command line.

Imported only for the error about an unknown option.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

# The options of each server that starman spells differently.
RENAMED = {
    "gunicorn": {
        "-b": "--listen",
        "--bind": "--listen",
        "-w": "--workers",
        "--worker-connections": "--max-connections",
        "--keep-alive": "--keepalive-timeout",
        "--limit-request-field_size": "--limit-request-field-size",
        "--preload": "--preload-app",
        "--daemon": "--daemonize",
        "-u": "--user",
        "-g": "--group",
        "-m": "--umask",
        "--pythonpath": "--include",
        "-n": "--proc-name",
        "--name": "--proc-name",
        "--certfile": "--ssl-cert",
        "--keyfile": "--ssl-key",
        "--access-logfile": "--access-log",
        "--access-logformat": "--access-log-format",
        "--error-logfile": "--error-log",
        "--log-file": "--error-log",
        "--reload-extra-file": "--reload-extra-files",
        "--proxy-allow-from": "--proxy-allow-ips",
        "--check-config": "--check",
    },
    "uvicorn": {
        "--uds": "--socket",
        "--root-path": "--path",
        "--app-dir": "--include",
        "--limit-concurrency": "--max-connections",
        "--limit-max-requests": "--max-requests",
        "--limit-max-requests-jitter": "--max-requests-jitter",
        "--timeout-keep-alive": "--keepalive-timeout",
        "--timeout-graceful-shutdown": "--graceful-timeout",
        "--timeout-worker-healthcheck": "--worker-timeout",
        "--h11-max-incomplete-event-size": "--limit-request-head",
        "--ssl-certfile": "--ssl-cert",
        "--ssl-keyfile": "--ssl-key",
        "--reload-include": "--reload-extra-files",
    },
    "uWSGI": {
        "--http": "--listen",
        "--http-socket": "--listen",
        "--https": "--listen",
        "--http11-socket": "--listen",
        "--processes": "--workers",
        "-b": "--limit-request-head",
        "--buffer-size": "--limit-request-head",
        "--post-buffering": "--body-buffer",
        "--limit-post": "--max-body",
        "--harakiri": "--request-timeout",
        "--http-keepalive": "--keepalive-timeout",
        "--reload-on-rss": "--max-worker-memory",
        "--worker-reload-mercy": "--graceful-timeout",
        "--reload-mercy": "--graceful-timeout",
        "--uid": "--user",
        "--gid": "--group",
        "--chmod-socket": "--socket-mode",
        "--chown-socket": "--socket-group",
        "--pidfile": "--pid",
        "--logto": "--error-log",
        "--pythonpath": "--include",
        "--python-path": "--include",
        "--pp": "--include",
        "--mount": "--path",
        "--py-autoreload": "--reload",
        "--show-config": "--print-config",
        "--ini": "--config",
    },
}

_APPLICATION = "name the application without an option, as module:app"
_THREADS = "starman always runs the application in threads (--threads N)"
# The options of each server that starman has no option for, and the reason.
WITHOUT = {
    "gunicorn": {
        "-c": "its file is Python, so run: starman-uv gunicorn -c FILE …; --config takes a file of TOML",
        "-k": _THREADS,
        "--worker-class": _THREADS,
        "-t": "--worker-timeout is for a worker that hangs; requests may take longer",
        "--timeout": "--worker-timeout is for a worker that hangs; requests may take longer",
        "--worker-tmp-dir": "starman writes no heartbeat to a file",
        "-R": "standard output is always inherited",
        "--enable-stdio-inheritance": "standard output is always inherited",
        "--no-sendfile": "starman uses sendfile only for wsgi.file_wrapper",
        "--reuse-port": "the workers share one listener, and each connection wakes one of them",
    },
    "uvicorn": {
        "--fd": "write --listen fd://N",
        "--factory": "call the factory in the name of the application: module:factory()",
        "--loop": "starman always uses uvloop",
        "--ws": "starman serves WSGI applications only",
        "--interface": "starman serves WSGI applications only",
        "--lifespan": "starman serves WSGI applications only",
        "--no-access-log": "there is no access log unless --access-log names one",
        "--no-server-header": "write --server-header off",
        "--env-file": "set the variables in the environment of the command",
    },
    "uWSGI": {
        "-w": _APPLICATION,
        "--module": _APPLICATION,
        "--wsgi": _APPLICATION,
        "--wsgi-file": _APPLICATION,
        "--file": _APPLICATION,
        "--callable": _APPLICATION,
        "-H": "run the starman-uv of that virtual environment",
        "--home": "run the starman-uv of that virtual environment",
        "--virtualenv": "run the starman-uv of that virtual environment",
        "--venv": "run the starman-uv of that virtual environment",
        "--master": "starman always has a master process",
        "--die-on-term": "TERM always stops the server",
        "--vacuum": "the files of UNIX sockets are always removed",
        "--enable-threads": _THREADS,
        "--lazy-apps": "each worker loads the application unless --preload-app is given",
        "--lazy": "each worker loads the application unless --preload-app is given",
        "--single-interpreter": "a worker always has one interpreter",
        "--strict": "an unknown option is always an error",
        "--need-app": "a missing application is always an error",
        "--thunder-lock": "each connection wakes one worker",
        "--static-map": "let the proxy or the application serve static files",
    },
}


def advice(word: str, flags: Container[str]) -> str | None:
    """What to write instead of the option `word`, if another server has it; None if none has.

    `word`: as it was given, without "=VALUE" ("--bind", "-w", "-w4"). `flags`: those of starman. Names for a flag that
    is not among them do not count.
    """
    name = word if word.startswith("--") else word[:2]
    if name == "--to-toml":
        return "run: starman-uv gunicorn --to-toml …"
    renamed: dict[str, list[str]] = {}
    reasons: dict[str, list[str]] = {}
    for server in RENAMED:
        flag = RENAMED[server].get(name)
        if flag in flags:
            renamed.setdefault(str(flag), []).append(server)
        elif reason := WITHOUT[server].get(name):
            reasons.setdefault(reason, []).append(server)
    if any("gunicorn" in servers for servers in (*renamed.values(), *reasons.values())):
        # Most users come from gunicorn: what the name means elsewhere would only distract.
        renamed = {flag: servers for flag, servers in renamed.items() if "gunicorn" in servers}
        reasons = {reason: servers for reason, servers in reasons.items() if "gunicorn" in servers}
    parts = [f"{name} is {_owners(servers)} name for {flag}" for flag, servers in renamed.items()]
    parts += [f"or run: starman-uv gunicorn {name} …"] if any("gunicorn" in servers for servers in renamed.values()) else []
    parts += [f"{name} is an option of {' and '.join(servers)}: {reason}" for reason, servers in reasons.items()]
    return "; ".join(parts) or None


def _owners(servers: list[str]) -> str:
    return " and ".join(f"{server}'s" for server in servers)
