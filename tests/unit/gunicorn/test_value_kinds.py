"""starman.gunicorn.value_kinds: values as gunicorn reads them, from files and from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from starman.gunicorn import value_kinds as values


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (values.NUMBER, "30", 30),
        (values.NUMBER, "0x10", 16),
        (values.NUMBER, True, 1),
        (values.TEXT, " a ", "a"),
        (values.TEXT, None, None),
        (values.TEXTS, "a", ["a"]),
        (values.TEXTS, None, []),
        (values.TEXTS, ("a", " b"), ["a", "b"]),
        (values.BINDS, [":80"], [":80"]),
        (values.LIST, "a, b,", ["a", "b"]),
        (values.LIST, None, []),
        (values.NETWORKS, "127.0.0.1,10.0.0.0/8,*", ["127.0.0.1", "10.0.0.0/8", "*"]),
        (values.FLAG, "True", True),
        (values.FLAG, " false", False),
        (values.FLAG, None, None),
        (values.USER, "1000", 1000),
        (values.USER, "root", "root"),
        (values.GROUP, "root", "root"),
        (values.GROUP, None, None),
        (values.PROXY_PROTOCOL, True, "auto"),
        (values.PROXY_PROTOCOL, "V1", "v1"),
        (values.PROXY_PROTOCOL, None, "off"),
        (values.CLASS, "sync", "sync"),
        (values.HOOK, "os.path.join", __import__("os").path.join),
        (values.ANY, 3, 3),
    ],
)
def test_a_value_is_read(kind: values.Kind, value: object, expected: object) -> None:
    assert kind.read(value) == expected


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (values.NUMBER, "many"),
        (values.NUMBER, None),
        (values.NUMBER, 2.5),
        (values.NUMBER, -1),
        (values.TEXT, 3),
        (values.TEXTS, 3),
        (values.TEXTS, [3]),
        (values.FLAG, 1),
        (values.FLAG, "yes"),
        (values.NETWORKS, "10.0.0.1/8"),
        (values.MAPPING, []),
        (values.USER, 2.5),
        (values.USER, "nobody-at-all"),
        (values.GROUP, "nobody-at-all"),
        (values.PROXY_PROTOCOL, "v3"),
        (values.HOOK, 3),
        (values.HOOK, "join"),
        (values.HOOK, "os.path.nothing"),
        (values.HOOK, "no_such_module.function"),
        (values.FOLDER, "/no/such/directory"),
        (values.FILES, "/no/such/file"),
    ],
)
def test_a_wrong_value_is_an_error(kind: values.Kind, value: object) -> None:
    with pytest.raises((ValueError, TypeError)):
        kind.read(value)


def test_numbers_of_the_command_line_may_be_octal() -> None:
    assert [values.read_octal(text) for text in ("022", "0", "0o22", "18", "0x12")] == [18, 0, 18, 18, 18]


def test_a_class_may_come_from_a_function() -> None:
    assert values.CLASS.read(lambda: "gevent") == "gevent"
    assert values.CLASS.read(str) is str


def test_directories_and_files_are_looked_up(tmp_path: Path) -> None:
    assert values.FOLDER.read(str(tmp_path)) == str(tmp_path)
    assert values.FILES.read([str(tmp_path), "*.nothing"]) == [str(tmp_path), "*.nothing"]


@pytest.mark.parametrize(
    ("function", "count", "fits"),
    [
        (lambda server: None, 1, True),
        (lambda server, worker=None: None, 1, True),
        (lambda *arguments: None, 2, True),
        (print, 2, True),
        (lambda: None, 1, False),
        (lambda server: None, 2, False),
    ],
)
def test_the_arguments_of_a_hook_are_counted(function: object, count: int, fits: bool) -> None:
    if fits:
        values.check_arguments(function, count)
    else:
        with pytest.raises(TypeError, match=f"the function must take {count} argument"):
            values.check_arguments(function, count)
