"""starman.gunicorn.mapping.map_settings: what becomes of each setting of gunicorn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from starman.config.option import OPTIONS
from starman.config.settings import Settings
from starman.errors import SettingError
from starman.gunicorn.configuration import ConfigurationError
from starman.gunicorn.known_settings import ACCESS_LOG_FORMAT, HOOKS, KNOWN_SETTINGS
from starman.gunicorn.mapping.outcomes import Fate
from tests.unit.gunicorn.resolving import fate, mapped, resolved, settings_of


def test_the_defaults_of_gunicorn_that_differ_count() -> None:
    outcomes = mapped()
    proxies = {"forwarded": ["proto"], "forwarder_headers": ["SCRIPT_NAME", "PATH_INFO"]}
    assert settings_of(outcomes) == {
        **proxies,
        "app": "app:app",
        "listen": ["127.0.0.1:8000"],
        "workers": 1,
        "threads": 1,
        "keepalive_timeout": 2,
        "limit_request_line": 4094,
        "max_body": 0,
    }
    assert set(outcomes.given) == {"app"}
    assert outcomes.warnings == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"bind": "0.0.0.0"}, {"listen": ["0.0.0.0:8000"]}),
        ({"bind": ["unix:x"]}, {"listen": ["unix:x"], "socket_mode": 0o777}),
        ({"bind": ["unix:x"], "umask": 0o007}, {"socket_mode": 0o770}),
        ({"workers": "3"}, {"workers": 3}),
        ({"workers": 0}, {"workers": 1}),
        ({"threads": 8}, {"threads": 8}),
        ({"worker_class": "gthread", "threads": 2}, {"threads": 2}),
        ({"worker_class": "gevent", "worker_connections": 10}, {"threads": 10}),
        ({"timeout": 20}, {"worker_timeout": 20, "request_timeout": 20}),
        ({"timeout": 120}, {"worker_timeout": 120, "boot_timeout": 120}),
        ({"timeout": 0}, {"worker_timeout": 0, "boot_timeout": 86400}),
        ({"graceful_timeout": "5"}, {"graceful_timeout": 5}),
        ({"keepalive": 0}, {"keepalive_timeout": 0}),
        ({"max_requests": 1000, "max_requests_jitter": 50}, {"max_requests": 1000, "max_requests_jitter": 50}),
        ({"limit_request_line": 0}, {"limit_request_line": 1 << 20, "limit_request_head": 1 << 21}),
        ({"limit_request_fields": 0}, {"limit_request_fields": 32768}),
        ({"limit_request_field_size": 16000}, {"limit_request_field_size": 16000}),
        ({"limit_request_field_size": 100000}, {"limit_request_field_size": 100000, "limit_request_head": 200000}),
        ({"accesslog": "-"}, {"access_log": "-"}),
        ({"accesslog": None}, {"access_log": "off"}),
        ({"errorlog": "-"}, {"error_log": "-"}),
        ({"errorlog": "x.log"}, {"error_log": "x.log"}),
        ({"preload_app": True}, {"preload_app": True}),
        ({"daemon": False}, {"daemonize": False}),
        ({"pidfile": "x.pid"}, {"pid": "x.pid"}),
        ({"proc_name": "shop"}, {"proc_name": "shop"}),
        ({"pythonpath": "a,b"}, {"include": ["b", "a"]}),
        ({"raw_env": ["A=1"]}, {"env": ["A=1"]}),
        ({"user": "nobody", "group": 12}, {"user": "nobody", "group": 12}),
        ({"certfile": "c", "keyfile": "k"}, {"ssl_cert": "c", "ssl_key": "k", "enable_ssl": True}),
        ({"backlog": 0}, {"backlog": 1}),
        ({"proxy_protocol": True}, {"proxy_protocol": "auto"}),
        (
            {"proxy_protocol": "v1", "proxy_allow_ips": "10.0.0.1"},
            {"proxy_protocol": "v1", "proxy_allow_ips": ["10.0.0.1", "unix"]},
        ),
        ({"forwarded_allow_ips": "10.0.0.0/8"}, {"forwarded_allow_ips": ["10.0.0.0/8", "unix"]}),
        ({"forwarded_allow_ips": "*"}, {"forwarded_allow_ips": ["*"]}),
        ({"syslog": True}, {"error_log": "syslog:localhost:514", "access_log": "syslog:localhost:514"}),
        (
            {"syslog": True, "syslog_addr": "unix:///dev/log#dgram", "accesslog": "-"},
            {"error_log": "syslog:/dev/log", "access_log": "-"},
        ),
        ({"syslog": True, "disable_redirect_access_to_syslog": True}, {"error_log": "syslog:localhost:514"}),
        ({"logconfig_dict": {"loggers": {"x": {}}}, "accesslog": "-"}, {"access_log": "-"}),
        ({"logconfig_dict": {"root": {}}, "accesslog": "-"}, {"access_log": "logging"}),
        ({"reload": True, "reload_engine": "inotify"}, {"reload": True, "reload_engine": "auto"}),
        ({"loglevel": "WARNING"}, {"log_level": "warning"}),
        ({"loglevel": "nonsense"}, {"log_level": "info"}),
        ({"enable_backlog_metric": True}, {"enable_backlog_metric": True}),
        ({"control_socket_disable": True}, {"control": "off"}),
        ({"control_socket_disable": False}, {"control": "auto"}),
        ({"access_log_format": ACCESS_LOG_FORMAT}, {"access_log_format": "combined"}),
    ],
)
def test_a_setting_becomes_one_of_starman(given: dict[str, object], expected: dict[str, object]) -> None:
    outcomes = mapped(**given)
    assert expected.items() <= settings_of(outcomes).items()
    Settings({**outcomes.defaults, **outcomes.given})
    assert outcomes.refusals == []


@pytest.mark.parametrize(
    "given",
    [
        {"worker_tmp_dir": "/dev/shm"},
        {"tmp_upload_dir": "/tmp"},
        {"worker_connections": 5000},
        {"sendfile": False},
        {"reuse_port": True},
        {"umask": 0o22},
        {"initgroups": True},
        {"control_socket": "/run/gunicorn.ctl"},
        {"logger_class": "gunicorn.glogging.Logger"},
        {"spew": False},
        {"cert_reqs": 0},
        {"protocol": "http"},
        {"http_protocols": "h1"},
        {"user": None},
        {"user": os.geteuid()},
    ],
)
def test_a_harmless_setting_is_not_warned_of(given: dict[str, object]) -> None:
    outcomes = mapped(**given)
    assert [fate(outcomes, name) for name in given] == [Fate.HARMLESS]
    assert outcomes.warnings == []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"strip_header_spaces": True}, "conf: strip_header_spaces has no effect: requests that gunicorn accepts"),
        ({"http_protocols": "h2,h1"}, "conf: http_protocols has no effect: starman speaks HTTP/1.1 only"),
        ({"ciphers": "X"}, "conf: ciphers has no effect"),
        ({"workers": 0}, "conf: workers: 0 workers cannot serve"),
        ({"worker_class": "gevent"}, "conf: worker_class: gevent becomes threads, 64 in each worker"),
        ({"proxy_protocol": "v2"}, "conf: proxy_protocol: connections without a header"),
    ],
)
def test_what_differs_is_a_warning(given: dict[str, object], expected: str) -> None:
    assert [line for line in mapped(**given).warnings if line.startswith(expected)] != []


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"worker_class": "uvicorn.workers.UvicornWorker"}, "conf: worker_class: uvicorn.workers.UvicornWorker serves ASGI"),
        ({"cert_reqs": 2}, "conf: cert_reqs: starman does not check certificates of clients"),
        ({"ssl_context": lambda config, default: None}, "conf: ssl_context: starman makes the context"),
        ({"protocol": "uwsgi"}, "conf: protocol: starman speaks HTTP only"),
        ({"http_protocols": "h2"}, "conf: http_protocols: starman speaks HTTP/1.1 only"),
    ],
)
def test_what_would_be_wrong_is_refused(given: dict[str, object], expected: str) -> None:
    assert [line for line in mapped(**given).refusals if line.startswith(expected)] != []


def test_the_application_is_named_as_in_gunicorn() -> None:
    assert settings_of(mapped("shop"))["app"] == "shop:application"
    assert settings_of(mapped("shop:make(1)"))["app"] == "shop:make(1)"
    assert settings_of(mapped(None, wsgi_app="shop"))["app"] == "shop:application"
    assert settings_of(mapped("shop:app", wsgi_app="other"))["app"] == "shop:app"
    with pytest.raises(ConfigurationError, match="no application is given"):
        mapped(None)


def test_a_paste_file_is_loaded_by_paste(tmp_path: Path) -> None:
    outcomes = mapped(None, paste=str(tmp_path / "x.ini#main"), raw_paste_global_conf=["a=b\\=c"])
    found = settings_of(outcomes)
    assert found["modules"] == ["paste.deploy"]
    assert found["eval"] == (
        f"paste.deploy.loadapp('config:{tmp_path}/x.ini#main', relative_to={os.getcwd()!r}, global_conf={{'a': 'b=c'}})"
    )
    Settings({**outcomes.defaults, **outcomes.given})


def test_variables_of_the_platform_replace_defaults() -> None:
    found = settings_of(mapped(environ={"PORT": "9000", "WEB_CONCURRENCY": "5"}))
    assert (found["listen"], found["workers"]) == (["0.0.0.0:9000"], 5)
    found = settings_of(mapped(environ={"PORT": "9000", "WEB_CONCURRENCY": "5"}, bind=":1", workers=2))
    assert (found["listen"], found["workers"]) == (["0.0.0.0:1"], 2)
    unusable = resolved(environ={"PORT": "x"}).values["bind"]
    assert unusable.value == ["127.0.0.1:8000"]
    assert unusable.unusable.startswith("PORT: invalid value 'x': 'x' is not a valid port number")


@pytest.mark.parametrize("errorlog", [None, "-"])
def test_output_is_captured_only_into_a_file(errorlog: str | None) -> None:
    outcomes = mapped(capture_output=True, errorlog=errorlog)
    assert "capture_output" not in settings_of(outcomes)
    assert fate(outcomes, "capture_output") is Fate.HARMLESS
    assert settings_of(mapped(capture_output=True, errorlog="x.log"))["capture_output"] is True


def test_modules_in_the_directory_of_the_start_are_found_with_chdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src").mkdir()
    monkeypatch.chdir(tmp_path)
    found = settings_of(mapped(chdir="src", pythonpath="lib"))
    assert found["include"] == ["lib", str(tmp_path / "src"), str(tmp_path)]
    assert "include" not in settings_of(mapped(chdir="."))


def test_a_daemon_starts_without_reload() -> None:
    outcomes = mapped(reload=True, daemon=True)
    assert "reload" not in settings_of(outcomes)
    assert "conf: reload has no effect: a daemon does not watch files" in outcomes.warnings[0]
    assert settings_of(mapped(reload=True, daemon=False))["reload"] is True


def test_a_variable_without_a_value_is_an_error() -> None:
    with pytest.raises(ConfigurationError, match="conf: raw_env: 'A' must be NAME=VALUE"):
        mapped(raw_env=["A"])


@pytest.mark.parametrize("name", [name for name in KNOWN_SETTINGS if name not in HOOKS])
def test_every_default_can_be_given(name: str) -> None:
    """As of a configuration that spells out all defaults."""
    known = KNOWN_SETTINGS[name]
    if known.default is None and name in ("chdir", "config"):
        return
    outcomes = mapped(**{name: known.default})
    assert outcomes.refusals == []
    Settings({**outcomes.defaults, **outcomes.given})


def test_settings_lead_to_settings_that_exist_or_are_not_supported() -> None:
    for outcome in mapped(**{name: known.default for name, known in KNOWN_SETTINGS.items() if known.default is not None}).found:
        if outcome.fate is Fate.MAPPED:
            assert outcome.text.partition(" ")[0] in OPTIONS


def test_only_a_request_of_a_sync_worker_has_the_timeout() -> None:
    assert mapped(timeout=20).given["request_timeout"].value == 20
    assert "request_timeout" not in mapped(timeout=20, worker_class="gthread").given
    assert "request_timeout" not in mapped(timeout=0).given


def test_an_atom_that_does_not_exist_is_a_dash() -> None:
    """gunicorn writes one, too. A percent sign that is written twice begins no atom."""
    outcomes = mapped(access_log_format="%(h)s %(z)s %({Host}I)s %({x}q)s %%(z)s")
    assert settings_of(outcomes)["access_log_format"] == "%(h)s - %({Host}i)s - %%(z)s"
    assert [text for text in outcomes.warnings if "atom" in text] == [
        f"conf: access_log_format: there is no atom {atom}, so the log has - in its place, as in gunicorn"
        for atom in ("%(z)s", "%({x}q)s")
    ]


def test_an_invalid_value_is_named_as_it_was_given() -> None:
    with pytest.raises(SettingError, match="conf: access_log_format: 'no atom' is no format"):
        mapped(access_log_format="no atom")
