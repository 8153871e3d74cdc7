"""starman.config.tables.proxy_options: how the settings for proxies are given and shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from starman.config.option import OPTIONS
from starman.config.settings import Settings
from starman.config.sources import from_arguments, from_command_line
from starman.errors import SettingError


def settings_of(argv: list[str], environ: dict[str, str], directory: Path) -> Settings:
    return from_command_line(from_arguments(argv), environ, str(directory))


def test_local_peers_are_trusted_by_default() -> None:
    assert Settings.of().forwarded_allow_ips == ("127.0.0.1", "::1", "unix")


@pytest.mark.parametrize(
    ("argv", "peers"),
    [
        (["--forwarded-allow-ips", "10.0.0.0/8"], ("10.0.0.0/8",)),
        (["--forwarded-allow-ips", "10.0.0.1, ::1,unix"], ("10.0.0.1", "::1", "unix")),
        (["--forwarded-allow-ips=10.0.0.1", "--forwarded-allow-ips=*"], ("10.0.0.1", "*")),
        (["--forwarded-allow-ips=::1,::0001"], ("::1",)),
        (["--forwarded-allow-ips=none"], ()),
        (["--forwarded-allow-ips="], ()),
    ],
)
def test_peers_on_the_command_line(tmp_path: Path, argv: list[str], peers: tuple[str, ...]) -> None:
    assert settings_of(argv, {"FORWARDED_ALLOW_IPS": "192.0.2.1"}, tmp_path).forwarded_allow_ips == peers


def test_the_variable_of_gunicorn_and_uvicorn_counts_below_all_others(tmp_path: Path) -> None:
    common = {"FORWARDED_ALLOW_IPS": "10.0.0.1, 10.0.0.2"}
    settings = settings_of([], common, tmp_path)
    assert settings.forwarded_allow_ips == ("10.0.0.1", "10.0.0.2")
    assert settings.source("forwarded_allow_ips") == "FORWARDED_ALLOW_IPS"
    assert settings_of([], {**common, "STARMAN_FORWARDED_ALLOW_IPS": "*"}, tmp_path).forwarded_allow_ips == ("*",)
    (tmp_path / "starman.toml").write_text('forwarded-allow-ips = ["10.0.0.3", "10.0.0.4"]')
    assert settings_of([], common, tmp_path).forwarded_allow_ips == ("10.0.0.3", "10.0.0.4")


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("proxy.example", "'proxy.example' is neither an IP address nor a network"),
        (["10.0.0.1/8"], "write 10.0.0.0/8 for the network"),
        (7, "7 is not valid"),
    ],
)
def test_an_error_names_the_setting_and_what_is_valid(given: object, reason: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.of(forwarded_allow_ips=given)
    assert reason in str(caught.value)
    assert "forwarded_allow_ips takes IP addresses, networks such as 10.0.0.0/8" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("forwarded_allow_ips", value) for value in ((), ("*",), ("10.0.0.0/8", "::1"))),
        *(("forwarded", value) for value in ((), ("for", "rfc7239"))),
        *(("secure_scheme_headers", value) for value in ((), ("X-SCHEME=a=b", "X-TLS=On"))),
        *(("forwarder_headers", value) for value in ((), ("SCRIPT_NAME", "*"))),
        *(("header_map", value) for value in ("drop", "refuse", "dangerous")),
    ],
)
def test_what_is_shown_is_read_back(name: str, value: object) -> None:
    declared = OPTIONS[name]
    assert declared.parse(declared.show(value), "test") == value


def test_the_scheme_fields_may_be_a_table(tmp_path: Path) -> None:
    (tmp_path / "starman.toml").write_text('[secure-scheme-headers]\nX-Scheme = "tls"\nx-tls = "on"\n')
    assert settings_of([], {}, tmp_path).secure_scheme_headers == ("X-SCHEME=tls", "X-TLS=on")


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("forwarded", "for,prot", "'prot' is not valid; did you mean 'proto'?"),
        ("header_map", "drops", "did you mean 'drop'?"),
        ("secure_scheme_headers", {"X Y": "on"}, "'X Y' is not the name of a field"),
        ("secure_scheme_headers", "X=", "takes NAME=VALUE"),
        ("forwarder_headers", "\u00e9", "is not the name of a field"),
    ],
)
def test_a_wrong_word_is_named(name: str, value: object, reason: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.of(**{name: value})
    assert reason in str(caught.value)


def test_no_header_is_expected_by_default() -> None:
    assert Settings.of().proxy_protocol == "off"
    assert Settings.of().proxy_allow_ips == ("127.0.0.1", "::1", "unix")


@pytest.mark.parametrize(
    ("given", "value"),
    [
        ("off", "off"),
        ("on", "on"),
        ("v1", "v1"),
        ("v2", "v2"),
        (" V2 ", "v2"),
        ("auto", "on"),
        ("true", "on"),
        ("1", "on"),
        ("no", "off"),
        (True, "on"),
        (False, "off"),
    ],
)
def test_versions_of_the_proxy_protocol(given: object, value: str) -> None:
    assert Settings.of(proxy_protocol=given).proxy_protocol == value


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ("v3", "'v3' is not valid; proxy_protocol takes "),
        ("2", "'2' is not valid"),
        ("", "'' is not valid"),
        (1, "1 is not valid"),
        (None, "None is not valid"),
        (("v1",), "('v1',) is not valid"),
        (["v1"], "['v1'] is not valid"),
    ],
)
def test_another_version(given: object, reason: str) -> None:
    with pytest.raises(SettingError) as caught:
        Settings.of(proxy_protocol=given)
    assert str(caught.value).startswith(f"Settings.of(proxy_protocol=...): {reason}")
    assert str(caught.value).endswith('; proxy_protocol takes "off", "on" (both versions), "v1" or "v2"')


def test_a_header_that_no_peer_may_send() -> None:
    with pytest.raises(SettingError, match="proxy_protocol needs a trusted proxy"):
        Settings.of(proxy_protocol="on", proxy_allow_ips="none")
    assert Settings.of(proxy_allow_ips="none").proxy_allow_ips == ()
