"""starman.gunicorn.log_configuration: configurations of `logging` become plain data."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import pytest

from starman.gunicorn.log_configuration import log_configuration, plain
from tests.unit.gunicorn.resolving import resolved


def test_objects_become_their_names() -> None:
    given = {
        "handlers": {"x": {"class": logging.StreamHandler, "stream": sys.stderr, "level": 10}},
        "formatters": {"y": {"()": logging.Formatter, "fmt": "%(message)s"}},
        "loggers": {"": {"handlers": ("x",), "propagate": False}},
        "z": None,
    }
    assert plain(given) == {
        "handlers": {"x": {"class": "logging.StreamHandler", "stream": "ext://sys.stderr", "level": 10}},
        "formatters": {"y": {"()": "logging.Formatter", "fmt": "%(message)s"}},
        "loggers": {"": {"handlers": ["x"], "propagate": False}},
        "z": None,
    }


@pytest.mark.parametrize("value", [object(), lambda: None, type("Own", (), {"__module__": "__config__"})])
def test_other_objects_are_an_error(value: object) -> None:
    with pytest.raises(ValueError, match="is no plain data"):
        plain({"x": [value]})


def test_the_parts_that_are_missing_are_those_of_gunicorn() -> None:
    found = log_configuration(resolved(logconfig_dict={"formatters": {}}))
    assert found is not None
    assert isinstance(found.config, dict)
    assert (found.name, found.access, found.config["formatters"]) == ("logconfig_dict", True, {})
    assert set(found.config) == {"version", "disable_existing_loggers", "root", "loggers", "handlers", "formatters"}
    found = log_configuration(resolved(logconfig_dict={"loggers": {"x": {}}}))
    assert found is not None
    assert not found.access


def test_the_dict_comes_before_the_json_file_and_that_before_the_other_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text(json.dumps({"loggers": {}}))
    (tmp_path / "x.ini").write_text("[logger_access]\nqualname=gunicorn.access\n")
    files = {"logconfig_json": str(tmp_path / "x.json"), "logconfig": str(tmp_path / "x.ini")}
    found = [log_configuration(resolved(**given)) for given in (
        {"logconfig_dict": {"root": {}}, **files}, {"logconfig_dict": {}, **files}, {"logconfig": files["logconfig"]}, {},
    )]  # fmt: skip
    assert [None if each is None else (each.name, each.access) for each in found] == [
        ("logconfig_dict", True),
        ("logconfig_json", False),
        ("logconfig", True),
        None,
    ]


def test_a_file_that_cannot_be_used_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("[]")
    with pytest.raises(ValueError, match="has no JSON object"):
        log_configuration(resolved(logconfig_json=str(tmp_path / "x.json")))
    with pytest.raises(OSError, match="No such file"):
        log_configuration(resolved(logconfig=str(tmp_path / "nothing")))
