"""A hook of mkdocs, for the site: pages link to files of the repository, such as tests and examples, which the site
does not have. There, such a link becomes its text, and the path of the file.
"""

from __future__ import annotations

import posixpath
import re
from typing import Any

_LINK = re.compile(r"\[([^\]\[]+)\]\(([^)\s#:]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_: object) -> str:
    """The text of a page, before it is rendered."""
    folder = posixpath.dirname(page.file.src_uri)

    def rewrite(found: re.Match[str]) -> str:
        text, target = found[1], found[2]
        path = posixpath.normpath(posixpath.join("docs", folder, target))
        if path.startswith("docs/") and not path.endswith(".py"):
            return found[0]
        name = path.removeprefix("./")
        return text if name in text else f"{text} (`{name}`)"

    return _LINK.sub(rewrite, markdown)
