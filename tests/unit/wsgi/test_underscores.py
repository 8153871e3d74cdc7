"""starman.wsgi.underscores: names with "_" are dropped, refused, or passed on."""

from __future__ import annotations

import pytest

from starman.config.settings import Settings
from starman.errors import ProtocolError
from tests.unit.wsgi.forwarding import environ_of


def test_by_default_they_are_dropped() -> None:
    environ = environ_of(Settings.of(), "X_User: a", "Script_Name: /a", "X-User: b")
    assert (environ["HTTP_X_USER"], environ["SCRIPT_NAME"]) == ("b", "")
    assert "HTTP_SCRIPT_NAME" not in environ


@pytest.mark.parametrize("trusted", [True, False])
def test_they_are_refused(trusted: bool) -> None:
    settings = Settings.of(header_map="refuse")
    with pytest.raises(ProtocolError, match="has a _") as caught:
        environ_of(settings, "X_User: a", trusted=trusted)
    assert caught.value.status == 400
    assert environ_of(settings, "X-User: b", trusted=trusted)["HTTP_X_USER"] == "b"


def test_a_refused_head_request_gets_no_body() -> None:
    with pytest.raises(ProtocolError) as caught:
        environ_of(Settings.of(header_map="refuse"), "X_User: a", method="HEAD")
    assert caught.value.to_head


@pytest.mark.parametrize("trusted", [True, False])
def test_dangerous_joins_both_spellings(trusted: bool) -> None:
    settings = Settings.of(header_map="dangerous")
    environ = environ_of(settings, "X_User: a", "X-User: b", "Script_Name: /a", trusted=trusted)
    assert (environ["HTTP_X_USER"], environ["HTTP_SCRIPT_NAME"], environ["SCRIPT_NAME"]) == ("a, b", "/a", "")


def test_no_setting_lets_them_change_what_is_said_of_the_body() -> None:
    for settings in (Settings.of(header_map="dangerous"), Settings.of(forwarder_headers="*")):
        environ = environ_of(settings, "Content_Length: 5", "Content_Type: a/b", "Transfer_Encoding: chunked")
        assert environ.keys().isdisjoint({"CONTENT_LENGTH", "CONTENT_TYPE", "HTTP_TRANSFER_ENCODING"})


@pytest.mark.parametrize("header_map", ["drop", "refuse", "dangerous"])
@pytest.mark.parametrize("names", ["REMOTE_USER", "remote_user", "*"])
def test_a_trusted_proxy_replaces_the_field_of_the_client(header_map: str, names: str) -> None:
    settings = Settings.of(header_map=header_map, forwarder_headers=names)
    environ = environ_of(settings, "Remote-User: forged", "Remote_User: real", "REMOTE-USER: forged")
    assert environ["HTTP_REMOTE_USER"] == "real"


def test_the_name_of_an_untrusted_peer_is_dropped() -> None:
    settings = Settings.of(forwarder_headers="REMOTE_USER,SCRIPT_NAME")
    environ = environ_of(settings, "Remote_User: forged", "Script_Name: /a", target="/a/b", trusted=False)
    assert "HTTP_REMOTE_USER" not in environ
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == ("", "/a/b")
    with pytest.raises(ProtocolError):
        environ_of(Settings.of(forwarder_headers="REMOTE_USER", header_map="refuse"), "Remote_User: forged", trusted=False)


@pytest.mark.parametrize(
    ("value", "target", "script_name", "path_info"),
    [
        ("/a", "/a/b?c", "/a", "/b"),
        ("/a/", "/a/b", "/a", "/b"),
        ("/a", "/a", "/a", ""),
        ("/", "/a", "", "/a"),
        ("", "/a", "", "/a"),
        ("/%C3%A9", "/%C3%A9/%C3%A9", "/\u00c3\u00a9", "/\u00c3\u00a9"),
    ],
)
def test_script_name(value: str, target: str, script_name: str, path_info: str) -> None:
    environ = environ_of(Settings.of(forwarder_headers="SCRIPT_NAME,PATH_INFO"), f"SCRIPT_NAME: {value}", target=target)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"], environ["REQUEST_URI"]) == (script_name, path_info, target)


@pytest.mark.parametrize(("value", "target"), [("/a", "/b"), ("/a", "/ab"), ("a", "/a"), ("/a/b", "/a")])
def test_a_script_name_with_which_the_path_does_not_begin_is_refused(value: str, target: str) -> None:
    with pytest.raises(ProtocolError, match="does not begin with the SCRIPT_NAME"):
        environ_of(Settings.of(forwarder_headers="SCRIPT_NAME"), f"SCRIPT_NAME: {value}", target=target)


def test_two_script_names_are_refused() -> None:
    with pytest.raises(ProtocolError, match="SCRIPT_NAME twice"):
        environ_of(Settings.of(forwarder_headers="SCRIPT_NAME"), "SCRIPT_NAME: /a", "SCRIPT_NAME: /b", target="/a")
