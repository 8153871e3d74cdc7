"""starman.config.revision: which settings change while a server runs, and how they travel."""

from __future__ import annotations

import marshal

import pytest

from starman.config.option import OPTIONS, GivenValue
from starman.config.revision import MOST_CHARACTERS, decode_settings, encode_settings, revise_settings
from starman.config.settings import Settings
from starman.errors import SettingError

CHANGED = Settings(
    {
        "workers": GivenValue(7, "starman.toml: workers"),
        "listen": GivenValue([":80", "/run/x.sock"], "--listen"),
        "graceful_timeout": GivenValue(2.5, "STARMAN_GRACEFUL_TIMEOUT"),
        "preload_app": GivenValue(True, "--preload-app"),
    }
)


@pytest.mark.parametrize("settings", [Settings.of(), CHANGED], ids=["defaults", "changed"])
def test_settings_survive_their_journey(settings: Settings) -> None:
    found = decode_settings(encode_settings(settings))
    for name in OPTIONS:
        assert (found.value(name), found.source(name)) == (settings.value(name), settings.source(name))
    assert found.addresses() == settings.addresses()


@pytest.mark.parametrize(
    "text", ["", "xyz", "00", marshal.dumps(({}, {})).hex(), marshal.dumps(3).hex(), encode_settings(CHANGED)[:-20]]
)
def test_what_are_no_settings_is_a_value_error(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_settings(text)


def test_settings_that_fit_no_packet_are_refused() -> None:
    with pytest.raises(SettingError, match=f"too large to pass to other processes .* of {MOST_CHARACTERS}"):
        encode_settings(Settings.of(eval="app" + " " * MOST_CHARACTERS))


def test_what_is_fixed_stays_and_is_named() -> None:
    running = Settings({"port": GivenValue(80, "--port")})
    read = Settings(
        {
            "port": GivenValue(81, "starman.toml: port"),
            "backlog": GivenValue(9, "starman.toml: backlog"),
            "workers": GivenValue(9, "starman.toml: workers"),
        }
    )
    found, refused = revise_settings(running, read)
    assert (found.port, found.source("port"), found.backlog, found.source("backlog")) == (80, "--port", 2048, "default")
    assert (found.workers, found.source("workers")) == (9, "starman.toml: workers")
    assert refused == [
        "port stays 80: it cannot change while the server runs (starman.toml: port: 81)",
        "backlog stays 2048: it cannot change while the server runs (starman.toml: backlog: 9)",
    ]


def test_the_same_value_from_elsewhere_is_no_change() -> None:
    found, refused = revise_settings(Settings.of(), Settings({"backlog": GivenValue("2048", "STARMAN_BACKLOG")}))
    assert refused == []
    assert found.source("backlog") == "default"


def test_a_certificate_that_goes_while_its_listener_stays_is_refused() -> None:
    running = Settings.of(listen=[":443:ssl"], ssl_cert="cert.pem")
    with pytest.raises(SettingError, match="needs a certificate"):
        revise_settings(running, Settings.of(listen=[":80"]))


def test_listeners_and_logs_are_fixed_and_what_workers_do_is_not() -> None:
    fixed = {name for name, setting in OPTIONS.items() if setting.fixed}
    assert fixed >= {"listen", "host", "port", "socket", "socket_mode", "socket_group", "backlog", "enable_ssl", "error_log"}
    assert not fixed & {"app", "workers", "threads", "graceful_timeout", "preload_app", "max_body", "access_log", "ssl_cert"}
