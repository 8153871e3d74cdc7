"""docs/settings.md says what the table says."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

from starman.config.settings import OPTIONS

DOCS = Path(__file__).resolve().parents[2] / "docs"


def build_module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_build", DOCS / "build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_page_is_up_to_date() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    assert page == build_module().settings_page(), "run: python docs/build.py"


def test_the_settings_page_has_every_setting_with_all_its_names() -> None:
    page = (DOCS / "settings.md").read_text(encoding="utf-8")
    for setting in OPTIONS.values():
        assert f"\n### {setting.name}\n" in page
        assert f"`{setting.variable}`" in page
        if not setting.positional:
            assert all(f"`{flag}" in page for flag in setting.all_flags)
