"""The site of the documentation is complete, and needs no other host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.functional.support.harness import REPOSITORY

# What a browser loads by itself. Links that a reader may follow are not among it.
LOADED = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*\bsrc=["']?(https?:)?//|<link\b[^>]*rel=["']?(?:stylesheet|preconnect)[^>]*//"""
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built strictly: a page outside of the navigation, a link or an anchor that leads nowhere is an error."""
    made = tmp_path_factory.mktemp("site") / "site"
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(made)],
        cwd=REPOSITORY,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return made


def test_every_page_is_there_and_found_by_the_search(site: Path) -> None:
    pages = {path.relative_to(REPOSITORY / "docs").with_suffix("") for path in (REPOSITORY / "docs").rglob("*.md")}
    for page in pages:
        folder = page.parent if page.name in ("index", "README") else page
        assert (site / folder / "index.html").exists(), page
    index = (site / "search" / "search_index.json").read_text()
    assert "lines of the access log are lost" in index


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not LOADED.search(page.read_text()), page


def test_a_link_to_a_file_of_the_repository_is_its_name(site: Path) -> None:
    text = (site / "docker" / "index.html").read_text()
    assert "examples/deploy/Dockerfile" in text
    assert 'href="../examples' not in text
