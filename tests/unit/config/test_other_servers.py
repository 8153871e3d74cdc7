"""starman.config.other_servers: the option names of other servers are recognised."""

from __future__ import annotations

import re

import pytest

from starman.config.other_servers import RENAMED, WITHOUT, advice
from starman.config.sources import flags, from_arguments
from starman.errors import SettingError

# Settings that RENAMED leads to and that this version does not have yet.
LATER = {"--request-timeout"}


@pytest.mark.parametrize(
    ("argument", "expected"),
    [
        (
            "-w",
            "-w: unknown option; -w is gunicorn's name for --workers; or run: starman-uv gunicorn -w …; --help lists",
        ),
        ("-w4", "-w4: unknown option; -w is gunicorn's name for --workers;"),
        (
            "--bind=:80",
            "--bind is gunicorn's name for --listen; or run: starman-uv gunicorn --bind …; --help lists the options",
        ),
        ("--pythonpath", "--pythonpath is gunicorn's and uWSGI's name for --include"),
        ("--uds", "--uds is uvicorn's name for --socket"),
        ("--factory", "--factory is an option of uvicorn: call the factory in the name"),
        ("-k", "-k is an option of gunicorn: starman always runs the application in threads"),
        (
            "-c",
            "-c is an option of gunicorn: its file is Python, so run: starman-uv gunicorn -c FILE …; --config takes a file of",
        ),
        ("--to-toml", "--to-toml: unknown option; run: starman-uv gunicorn --to-toml …"),
        ("--processes", "--processes is uWSGI's name for --workers"),
    ],
)
def test_an_option_of_another_server_is_recognised(argument: str, expected: str) -> None:
    with pytest.raises(SettingError, match=re.escape(expected)):
        from_arguments([argument, "4", "app:app"])


def test_a_short_option_that_no_server_has_suggests_nothing() -> None:
    with pytest.raises(SettingError, match=re.escape("-Z: unknown option; --help lists the options")):
        from_arguments(["-Z"])


def test_a_name_for_an_option_that_is_missing_does_not_count() -> None:
    assert advice("--bind", ["--workers"]) is None
    assert advice("--uds", ["--socket"]) == "--uds is uvicorn's name for --socket"


def test_every_name_leads_to_an_option_and_is_none_itself() -> None:
    known = set(flags())
    targets = {flag for names in RENAMED.values() for flag in names.values()}
    assert targets - known <= LATER
    names = {name for table in (*RENAMED.values(), *WITHOUT.values()) for name in table}
    assert names & known == set()
