"""starman.config.access_log_format: what is a format, and what is wrong with what is none."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from starman.config.access_log_format import ATOMS, Atom, json_problem, parse_format, read_format
from starman.config.settings import Settings
from starman.errors import SettingError


@pytest.mark.parametrize(
    "text",
    [
        *("combined", "common", "json", "ecs", "gcp", "%(h)s", "%%%(s)d", "%({a-b}i)s\t%({a}o)-5s%({wsgi.x}e)s", '{"a":%(b)s}'),
        '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s"',
    ],
)
def test_formats(text: str) -> None:
    assert read_format(text) == text
    assert read_format(f" {text}\n") == text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("combind", "'combind' is no format; did you mean 'combined'?"),
        ("100%% plain", "'100%% plain' is no format"),
        ("%(h)s %(x)s", "'%(h)s %(x)s' has an unknown atom, %(x)s"),
        ("%(queue_tme)s", "'%(queue_tme)s' has an unknown atom, %(queue_tme)s; did you mean 'queue_time'?"),
        ("%({a}x)s", "unknown atom, %({a}x)s"),
        ("%({}i)s", "unknown atom, %({}i)s"),
        ("%(h)s 5% of", "'% of' begins no atom such as %(h)s; write %% for a percent sign"),
        ("%(h", "'%(h' begins no atom"),
        ("%(h)", "an 's' is missing after the atom %(h)"),
        ("%(h)y", "an 's' is missing after the atom %(h)"),
        ("%(D)9999d", "%(D)9999d is not valid"),
        ("%(D)5.5.5d", "%(D)5.5.5d is not valid"),
        ("%(h)s\n%(s)s", ""),
        ("", ""),
        (7, ""),
    ],
)
def test_errors(text: object, reason: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the text is compared
        read_format(text)
    assert reason in str(caught.value)
    with pytest.raises(SettingError, match=r"access_log_format takes combined, .* %\(h\)s .*%\(\{field\}i\)s"):
        Settings.of(access_log_format=text)


def test_json_may_span_lines() -> None:
    assert read_format('{\n  "a": "%(a)s"\n}\n') == '{   "a": "%(a)s" }'


def test_which_places_are_in_a_json_string() -> None:
    atoms = [part for part in parse_format(r'{"a%(a)s\"%(h)s": %(b)s, "c\\": %(s)s}') if isinstance(part, Atom)]
    assert [(atom.name, atom.quoted) for atom in atoms] == [("a", True), ("h", True), ("b", False), ("s", False)]


def test_json_that_is_none_is_named() -> None:
    line_format = '{"a": "%(a)s",}'
    assert json_problem('{"a": "%(a)s", "b": %(b)s}') is None
    assert json_problem(line_format) is not None
    (warning,) = Settings.of(access_log="-", access_log_format=line_format).warnings()
    assert "begins with { but its lines are not JSON: " in warning


def test_settings_without_an_access_log_have_no_effect() -> None:
    (warning,) = Settings.of(access_log_format="json", access_log_errors=True).warnings()
    assert "access_log_format=...), Settings.of(access_log_errors=...) have no effect: there is no access log" in warning
    assert Settings.of(access_log="-", access_log_format="json", access_log_errors=True).warnings() == ()


@given(st.text(st.sampled_from("%(){}hsi\\\"' 5d-a")))
def test_any_text_is_a_format_or_a_reason(text: str) -> None:
    reason, parts = "", []
    try:
        parts = parse_format(text)
    except ValueError as error:
        reason = str(error)
    assert reason or text.replace("%%", "").count("%(") == len([part for part in parts if isinstance(part, Atom)])
    assert all(part.name in ATOMS or part.name[0] == "{" for part in parts if isinstance(part, Atom))
