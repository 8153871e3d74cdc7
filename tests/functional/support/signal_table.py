"""The tables of docs/signals.md."""

from __future__ import annotations

from collections.abc import Iterator

from tests.functional.support.harness import REPOSITORY


def rows(heading: str) -> Iterator[list[str]]:
    """The cells of each row of the table below `heading`."""
    page = (REPOSITORY / "docs" / "signals.md").read_text()
    section = page.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    for line in lines[2:]:
        yield [cell.strip() for cell in line.strip("|").split("|")]
