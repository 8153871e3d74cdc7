"""docs/settings.md is up to date with the table of options."""

from __future__ import annotations

from starman.config.settings import OPTIONS
from tests.unit.docs_scripts import DOCS, import_docs_script


def test_the_settings_page_is_up_to_date() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert page == import_docs_script("build").settings_page(), "run: make docs"


def test_the_settings_page_has_every_setting_with_all_its_names() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    for setting in OPTIONS.values():
        assert f"\n### {setting.name}\n" in page
        assert f"`{setting.variable}`" in page
        if not setting.positional:
            assert all(f"`{flag}" in page for flag in setting.all_flags)
