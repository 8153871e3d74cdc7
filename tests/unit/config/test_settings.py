"""The table of settings, and the frozen values of it."""

from __future__ import annotations

import re

import pytest

from starman.config.options import Options
from starman.config.settings import DEFAULT_SOURCE, OPTIONS, GivenValue, Option, Settings, nearest
from starman.errors import SettingError

DEFAULTS = {
    "app": None, "eval": None, "include": (), "modules": (), "env": (), "unset_env": (), "hooks": None,
    "path": "", "preload_app": False, "warm_up": (),
    "listen": (":5000",), "host": None, "port": None, "socket": None, "backlog": 2048, "socket_mode": None, "socket_group": None,
    "threads": 4, "graceful_timeout": 30.0, "restart_batch": 1, "boot_timeout": 60.0, "worker_timeout": 30.0,
    "busy_warning": 5.0, "slow_request": 30.0, "request_timeout": 0.0, "request_interrupt": False, "lost_threads": 0,
    "queue_timeout": 0.0, "max_queue": 0,
    "max_requests": 0, "max_requests_jitter": 0, "max_worker_lifetime": 0.0, "max_worker_memory": 0,
    "keepalive_timeout": 65.0, "max_connections": -1, "disable_keepalive": False, "header_timeout": 30.0, "write_timeout": 60.0,
    "body_buffer": 1 << 20, "body_memory": 64 << 20,
    "min_body_rate": 500, "min_send_rate": 500, "server_header": "starman", "stream_body": False, "stream_body_path": (),
    "response_buffer": 1 << 20, "response_spool": 1 << 30, "response_memory": 64 << 20,
    "spool_limit": -1,
    "limit_request_line": 8190, "limit_request_fields": 100, "limit_request_field_size": 8190, "limit_request_head": 65536,
    "max_body": 1 << 30, "error_log": None, "access_log": "off", "proc_name": None, "disable_proctitle": False,
    "forwarded_allow_ips": ("127.0.0.1", "::1", "unix"), "forwarded": ("for", "proto"),
    "secure_scheme_headers": ("X-FORWARDED-PROTOCOL=ssl", "X-FORWARDED-PROTO=https", "X-FORWARDED-SSL=on"),
    "forwarder_headers": (), "header_map": "drop",
    "proxy_protocol": "off", "proxy_allow_ips": ("127.0.0.1", "::1", "unix"),
    "access_log_format": "combined", "access_log_skip": (), "access_log_errors": False,
    "log_level": "info", "log_format": "text", "capture_output": False, "log_config": None,
    "disable_immortal_objects": False, "reload": False, "reload_engine": "auto", "reload_extra_files": (),
    "control": "auto", "admin_listen": None, "admin_token": None, "admin_hosts": (),
    "statsd_host": None, "statsd_prefix": "", "dogstatsd_tags": "", "enable_backlog_metric": False,
    "chdir": None, "umask": None, "pid": None, "daemonize": False, "user": None, "group": None,
    "ssl_cert": None, "ssl_key": None, "enable_ssl": False, "ssl_handshake_timeout": 10.0,
}  # fmt: skip

# For every setting a value that is wrong, and words about what would be right.
WRONG = [
    ("app", "", "module:app"),
    ("eval", " ", "a Python expression"),
    ("include", 3, "a directory"),
    ("modules", [""], "name of a module"),
    ("env", ["=1"], "NAME=VALUE"),
    ("unset_env", ["A=1"], "the name of an environment variable"),
    ("hooks", "", "module, or a file"),
    ("path", "shop", 'begins with "/"'),
    ("preload_app", "maybe", "true or false"),
    ("warm_up", ["health"], 'begins with "/"'),
    ("listen", "localhost", "HOST:PORT"),
    ("host", "", "a host name"),
    ("port", "70000", "from 0 to 65535"),
    ("socket", "", "UNIX socket"),
    ("backlog", "0", "from 1 to 2147483647"),
    ("socket_mode", "rw", "octal"),
    ("socket_group", -1, "a group's name or number"),
    ("workers", "0", 'from 1 to 1024, or "auto"'),
    ("threads", "-1", "from 0 to 10000"),
    ("graceful_timeout", "-1", "at least 0"),
    ("restart_batch", "0", "at least 1"),
    ("boot_timeout", "0", "more than 0"),
    ("worker_timeout", "-1", "at least 0"),
    ("busy_warning", "-1", "at least 0"),
    ("slow_request", "long", "a number of seconds, at least 0"),
    ("request_timeout", "-0.5", "at least 0"),
    ("request_interrupt", "sometimes", "true or false"),
    ("lost_threads", "some", "at least 0"),
    ("queue_timeout", "-1", "at least 0"),
    ("max_queue", "many", "a whole number, at least 0"),
    ("max_requests", "-1", "at least 0"),
    ("max_requests_jitter", "many", "at least 0"),
    ("max_worker_lifetime", "-1", "at least 0"),
    ("max_worker_memory", "1.5G", "at least 0"),
    ("max_connections", "0", 'at least 1, or "auto"'),
    ("keepalive_timeout", "soon", "a number of seconds, at least 0"),
    ("disable_keepalive", 2, "true or false"),
    ("header_timeout", "0", "more than 0"),
    ("write_timeout", "nan", "more than 0"),
    ("min_body_rate", "-1", "at least 0"),
    ("min_send_rate", "fast", "at least 0"),
    ("stream_body", "sometimes", "true or false"),
    ("stream_body_path", "upload", 'begins with "/"'),
    ("server_header", "star\nman", '"off"'),
    ("body_buffer", "1KB", "64K, 1M, 1G"),
    ("body_memory", "64MB", "64K, 1M, 1G"),
    ("response_buffer", "much", "64K, 1M, 1G"),
    ("response_memory", "64MB", "64K, 1M, 1G"),
    ("response_spool", "-1", "at least 0"),
    ("spool_limit", "-1", '64K, 1M, 1G, or "auto"'),
    ("limit_request_line", "0", "at least 1"),
    ("limit_request_fields", "0", "at least 1"),
    ("limit_request_field_size", "x", "at least 1"),
    ("limit_request_head", "-1", "at least 1"),
    ("max_body", "1.5G", "at least 0"),
    ("forwarded_allow_ips", "localhost", "networks such as 10.0.0.0/8"),
    ("forwarded", "scheme", "for, proto, host"),
    ("secure_scheme_headers", "X-Scheme", "NAME=VALUE"),
    ("forwarder_headers", "a b", "names of fields"),
    ("header_map", "keep", "drop, refuse or dangerous"),
    ("proxy_protocol", "v3", "'v3' is not valid"),
    ("proxy_allow_ips", "10.0.0.1/8", "write 10.0.0.0/8"),
    ("error_log", "", "a file"),
    ("access_log", "", '"off"'),
    ("log_level", "loud", "critical"),
    ("log_format", "xml", "json"),
    ("access_log_format", "%(x)s", "%(h)s %(l)s"),
    ("access_log_skip", "health", 'begins with "/"'),
    ("access_log_errors", "some", "true or false"),
    ("capture_output", "perhaps", "true or false"),
    ("log_config", "", "a mapping of plain data"),
    ("chdir", "", "a directory"),
    ("umask", "1777", "octal"),
    ("pid", "", "a file"),
    ("daemonize", "please", "true or false"),
    ("user", -1, "a user's name or number"),
    ("group", 0xFFFF_FFFF, "a group's name or number"),
    ("proc_name", "", "a name"),
    ("control", "", "a path, auto or off"),
    ("disable_proctitle", "", "true or false"),
    ("disable_immortal_objects", "", "true or false"),
    ("reload", "perhaps", "true or false"),
    ("reload_engine", "inotify", "auto, watchfiles or poll"),
    ("reload_extra_files", [""], "a file or a glob"),
    ("admin_listen", "nowhere", "HOST:PORT"),
    ("admin_token", "two words", "ASCII without spaces"),
    ("admin_hosts", "http://web", "leave out the scheme, the port and the path"),
    ("admin_hosts", "web:9100", "leave out the scheme, the port and the path"),
    ("admin_hosts", "b\u00fcro.example", "is not a name in ASCII"),
    ("admin_hosts", "a..b", "is not a name in ASCII"),
    ("admin_hosts", "*.example", "is not a name in ASCII"),
    ("statsd_host", ":1", "HOST:PORT"),
    ("statsd_prefix", "a|b", "text without |"),
    ("dogstatsd_tags", "a|b", "tags, separated by commas"),
    ("enable_backlog_metric", "perhaps", "true or false"),
    ("ssl_cert", "", "PEM"),
    ("ssl_key", "", "PEM"),
    ("enable_ssl", "perhaps", "true or false"),
    ("ssl_handshake_timeout", "0", "more than 0"),
]


def test_every_default() -> None:
    settings = Settings.of()
    assert settings.workers >= 2
    assert {name: settings.value(name) for name in OPTIONS if name != "workers"} == DEFAULTS
    assert all(settings.source(name) == DEFAULT_SOURCE for name in OPTIONS)


def test_the_table_is_complete_and_consistent() -> None:
    assert {name for name, _, _ in WRONG} == set(OPTIONS)
    assert next(iter(OPTIONS)) == "app"
    flags = [flag for setting in OPTIONS.values() for flag in setting.all_flags]
    assert len(flags) == len(set(flags))
    for name, setting in OPTIONS.items():
        assert isinstance(setting, Option)
        assert setting.name == name
        assert getattr(Settings, name) is setting
        assert any(name in declaring.__annotations__ for declaring in Options.__mro__[:-1])
        assert setting.help.endswith((".", '".'))
        assert setting.group
        assert setting.kind.valid
        assert not hasattr(setting, "__dict__")


@pytest.mark.parametrize(("name", "value", "valid"), WRONG)
def test_a_wrong_value_names_its_source_itself_and_what_is_valid(name: str, value: object, valid: str) -> None:
    shown = value[0] if isinstance(value, list) else value
    with pytest.raises(SettingError) as caught:
        Settings({name: GivenValue(value, "the source")})
    message = str(caught.value)
    assert message.startswith("the source: ")
    assert repr(shown) in message
    assert name in message
    assert valid in message
    assert caught.value.exit_status == 2


@pytest.mark.parametrize(
    ("name", "text", "natural"),
    [
        ("workers", "3", 3),
        ("threads", "2", 2),
        ("graceful_timeout", "1.5", 1.5),
        ("preload_app", "yes", True),
        ("max_body", "0", 0),
        ("max_body", "64K", 65536),
        ("socket_mode", "0660", 0o660),
        ("listen", ":80", [":80"]),
        ("port", "0", 0),
        ("path", "/a/", "/a"),
    ],
)
def test_text_and_natural_values_are_the_same(name: str, text: str, natural: object) -> None:
    one, other = Settings.of(**{name: text}), Settings.of(**{name: natural})
    assert one.value(name) == other.value(name)
    assert type(one.value(name)) is type(other.value(name))


def test_what_is_shown_reads_back() -> None:
    settings = Settings.of(socket_mode=0o640, max_body=3 << 20, write_timeout=0.25, preload_app=True, workers=3)
    for name, setting in OPTIONS.items():
        if settings.value(name) not in (None, (), ""):
            assert setting.parse(setting.show(settings.value(name)), "again") == settings.value(name)
        else:
            assert setting.show(settings.value(name)) == "none"


def test_none_is_a_value_only_where_it_is_the_default() -> None:
    assert Settings.of(error_log=None, port=None).port is None
    with pytest.raises(SettingError, match=re.escape("Settings.of(workers=...): None is not valid")):
        Settings.of(workers=None)


def test_settings_know_where_a_value_is_from() -> None:
    settings = Settings({"threads": GivenValue("2", "STARMAN_THREADS")})
    assert settings.threads == 2
    assert settings.source("threads") == "STARMAN_THREADS"
    assert settings.source("workers") == "default"
    assert Settings.of(threads=1).source("threads") == "Settings.of(threads=...)"


def test_settings_are_frozen() -> None:
    settings = Settings.of(threads=2)
    with pytest.raises(AttributeError, match="frozen"):
        settings.threads = 3
    with pytest.raises(AttributeError, match="frozen"):
        settings.anything = 3  # type: ignore[attr-defined]
    assert settings.threads == 2
    assert repr(settings) == "Settings(threads=2)"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(
        SettingError, match=re.escape("Settings.of(wrokers=...): unknown setting 'wrokers'; did you mean 'workers'?")
    ):
        Settings.of(wrokers=3)


def test_nothing_is_suggested_where_nothing_is_near() -> None:
    assert nearest("zzz", ["workers", "threads"]) == ""
    assert nearest("thread", ["workers", "threads"]) == "; did you mean 'threads'?"
    # What is not close would mislead, and what all names begin with says nothing.
    levels = ["debug", "info", "warning", "error", "critical"]
    assert [nearest(word, levels) for word in ("verbose", "trace", "notice", "plain")] == [""] * 4
    assert nearest("err", levels) == "; did you mean 'error'?"
    assert nearest("--debug", ["--pid", "--user"]) == nearest("STARMAN_DEBUG", ["STARMAN_PID"]) == ""


def test_two_applications_are_refused() -> None:
    with pytest.raises(SettingError, match=r"app=\.\.\.\) and .*eval=\.\.\.\): give one application"):
        Settings.of(app="a:b", eval="x")
    assert Settings.of(app="a:b", eval=None).app == "a:b"


def test_a_keepalive_timeout_of_zero_disables_keepalive() -> None:
    assert Settings.of(keepalive_timeout=0).disable_keepalive is True
    assert Settings.of(keepalive_timeout=0.5).disable_keepalive is False


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ({}, ["0.0.0.0:5000"]),
        ({"port": 80}, ["0.0.0.0:80"]),
        ({"port": 0}, ["0.0.0.0:0"]),
        ({"host": "localhost"}, ["localhost:5000"]),
        ({"host": "::1", "port": 80}, ["[::1]:80"]),
        ({"host": "*", "port": 80}, ["*:80"]),
        ({"socket": "/tmp/s"}, ["unix:/tmp/s"]),
        ({"socket": "s.sock"}, ["unix:s.sock"]),
        ({"socket": "unix:s"}, ["unix:s"]),
        ({"socket": "@s"}, ["@s"]),
        ({"socket": "/tmp/s", "port": 80}, ["unix:/tmp/s"]),
        ({"listen": [":80", "*:81", "80"], "port": 82, "socket": "/s"}, ["0.0.0.0:80", "*:81"]),
    ],
)
def test_addresses(given: dict[str, object], addresses: list[str]) -> None:
    assert [str(address) for address in Settings.of(**given).addresses()] == addresses


@pytest.mark.parametrize(("name", "value"), [("host", "a b"), ("socket", "/" + "x" * 200)])
def test_a_wrong_host_or_socket_shows_at_once(name: str, value: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings({name: GivenValue(value, f"--{name}")})
    assert str(caught.value).startswith(f"--{name}: ")
    assert f"{name} takes" in str(caught.value)


def test_warnings_name_what_has_no_effect() -> None:
    assert Settings.of(listen=":80").warnings() == ()
    assert Settings.of(host="a", port=80).warnings() == ()
    (warning,) = Settings({"listen": GivenValue(":80", "--listen"), "port": GivenValue("81", "--port")}).warnings()
    assert warning == "--port has no effect together with --listen"
    (warning,) = Settings.of(socket="/s", host="a", port=80).warnings()
    assert warning == "Settings.of(host=...), Settings.of(port=...) have no effect together with Settings.of(socket=...)"
    (warning,) = Settings.of(stream_body=True, stream_body_path="/a").warnings()
    assert warning == "Settings.of(stream_body_path=...) has no effect together with Settings.of(stream_body=...)"


def test_names_of_a_setting() -> None:
    setting = OPTIONS["header_timeout"]
    assert setting.flag == "--header-timeout"
    assert setting.all_flags == ("--header-timeout", "--read-timeout")
    assert OPTIONS["listen"].all_flags == ("-l", "--listen")
    assert setting.variable == "STARMAN_HEADER_TIMEOUT"
    assert setting.default_text == "30 seconds"
    assert OPTIONS["max_body"].default_text == "1G"
    assert OPTIONS["workers"].default_text == "auto"
    assert OPTIONS["host"].default_text == "none"
    assert OPTIONS["restart_batch"].default_text == "1 worker"
    assert OPTIONS["max_requests"].default_text == "0 (never)"
    assert OPTIONS["min_body_rate"].default_text == "500 bytes per second"
    assert OPTIONS["app"].positional
    assert OPTIONS["preload_app"].boolean
    assert OPTIONS["listen"].repeatable


# TLS


def test_tls_needs_a_certificate() -> None:
    for given in ({"listen": ("127.0.0.1:80", ":443:ssl")}, {"port": 443, "enable_ssl": True}, {"enable_ssl": True}):
        with pytest.raises(SettingError, match="certificate: give ssl_cert"):
            Settings.of(**given)
        assert Settings.of(ssl_cert="a.pem", **given).ssl_key is None


def test_enable_ssl_is_for_all_tcp_listeners() -> None:
    settings = Settings.of(listen=(":80", ":80:ssl", "/run/app.sock", "fd://3"), enable_ssl=True, ssl_cert="a.pem")
    assert [(str(address), address.secure) for address in settings.addresses()] == [
        ("0.0.0.0:80:ssl", True),
        ("unix:/run/app.sock", False),
        ("fd://3", True),
    ]
    assert settings.warnings() == ()


def test_tls_settings_without_a_listener_of_theirs() -> None:
    settings = Settings.of(listen="/run/app.sock", port=80, ssl_cert="a.pem", enable_ssl=True)
    assert len(settings.warnings()) == 2
    assert "no listener uses TLS" in settings.warnings()[1]
    assert "ssl_cert" in settings.warnings()[1]
    assert "enable_ssl" in settings.warnings()[1]
    assert settings.warnings()[1].endswith("no listener uses TLS; TLS needs a TCP listener")
    (warning,) = Settings.of(ssl_cert="a.pem").warnings()
    assert warning.endswith("no listener uses TLS; append :ssl to an address, or add --enable-ssl")


@pytest.mark.parametrize(
    "streaming", [{"stream_body": True}, {"stream_body_path": ["/upload"]}], ids=lambda given: next(iter(given))
)
def test_bodies_are_not_streamed_where_there_are_no_threads(streaming: dict[str, object]) -> None:
    name = next(iter(streaming))
    with pytest.raises(SettingError) as caught:
        Settings.of(threads=0, **streaming)
    message = str(caught.value)
    assert "Settings.of(threads=...)" in message
    assert f"Settings.of({name}=...)" in message
    assert "\n" not in message
    assert caught.value.exit_status == 2
    assert Settings.of(threads=1, **streaming).threads == 1


@pytest.mark.parametrize(
    ("prefix", "target"),
    [
        ("/café", "/caf%C3%A9/x"),
        ("/a b", "/a%20b?c"),
        ("/[x]", "/%5bx%5D"),
        ("/[x]", "/[x]/y"),
        ("/100%", "/100%/x"),
        ("/100%", "/100%25"),
    ],
)
def test_a_warm_up_may_be_encoded_otherwise_than_the_path_it_is_below(prefix: str, target: str) -> None:
    assert Settings.of(path=prefix, warm_up=[target]).warm_up == (target,)


@pytest.mark.parametrize(("prefix", "target"), [("/a b", "/a+b"), ("/%41", "/%41"), ("/x", "/%78y"), ("/x%", "/x%zz")])
def test_a_warm_up_that_is_not_below_the_path(prefix: str, target: str) -> None:
    with pytest.raises(SettingError, match="is not below"):
        Settings.of(path=prefix, warm_up=[target])


def test_reload_suits_development() -> None:
    settings = Settings.of(reload=True)
    assert (settings.workers, settings.graceful_timeout) == (1, 0.8)
    settings = Settings.of(reload=True, workers=3, graceful_timeout=0.2)
    assert (settings.workers, settings.graceful_timeout) == (3, 0.2)
    assert Settings.of(reload=True, graceful_timeout=60).graceful_timeout == 0.8
    assert Settings.of(reload=True, reload_engine="POLL").reload_engine == "poll"


def test_reload_is_not_for_the_background() -> None:
    with pytest.raises(SettingError, match=r"Settings\.of\(reload=\.\.\.\) and .*daemonize.* cannot be combined"):
        Settings.of(reload=True, daemonize=True)


def test_a_warning_names_what_has_no_effect_without_reload_or_with_it() -> None:
    (warning,) = Settings.of(reload_extra_files=["*.html"]).warnings()
    assert warning == "Settings.of(reload_extra_files=...) has no effect without reload (--reload)"
    assert Settings.of(reload=True, reload_extra_files=["*.html"]).warnings() == ()
    (warning,) = Settings.of(reload=True, graceful_timeout=60).warnings()
    assert warning == "Settings.of(graceful_timeout=...) is at most 0.8 s with reload (Settings.of(reload=...))"
    assert Settings.of(reload=True, graceful_timeout=0.5).warnings() == ()
