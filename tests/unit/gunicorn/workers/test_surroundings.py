"""starman.gunicorn.workers.surroundings: what gunicorn changes in its processes."""

from __future__ import annotations

import pytest

from starman.gunicorn.workers.surroundings import arguments_of


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        ("/venv/bin/starman-uv", "/venv/bin/gunicorn"),
        ("starman-uv", "gunicorn"),
        ("/venv/lib/starman/__main__.py", "/venv/lib/gunicorn/__main__.py"),
    ],
)
def test_the_name_of_the_program_is_that_of_gunicorn(program: str, expected: str) -> None:
    assert arguments_of(program, ("-w", "3")) == [expected, "-w", "3"]
