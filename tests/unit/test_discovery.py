"""Finding the application of a directory that names none."""

from __future__ import annotations

from pathlib import Path

import pytest

from starman.discovery import find_application
from starman.errors import LoadError

SETDEFAULT = 'import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "{}")\n'


def write(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text("")


def test_app_py_then_wsgi_py_then_django(tmp_path: Path) -> None:
    write(tmp_path, "app.py", "wsgi.py", "site1/wsgi.py", "site1/settings.py")
    assert find_application(str(tmp_path)) == "app.py"
    (tmp_path / "app.py").unlink()
    assert find_application(str(tmp_path)) == "wsgi.py"
    (tmp_path / "wsgi.py").unlink()
    assert find_application(str(tmp_path)) == "site1.wsgi"


@pytest.mark.parametrize(
    "text",
    [
        SETDEFAULT.format("shop.settings"),
        SETDEFAULT.format("shop.settings").replace('"', "'"),
        'import os\nos.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"\n',
        SETDEFAULT.format("shop.settings.production"),
    ],
)
def test_manage_py_names_the_package(tmp_path: Path, text: str) -> None:
    write(tmp_path, "shop/wsgi.py", "shop/settings/production.py", "other/wsgi.py", "other/settings.py")
    (tmp_path / "manage.py").write_text(text)
    assert find_application(str(tmp_path)) == "shop.wsgi"


def test_the_nearest_wsgi_module_of_a_nested_package_counts(tmp_path: Path) -> None:
    write(tmp_path, "config/web/wsgi.py", "config/wsgi.py", "config/web/settings.py")
    (tmp_path / "manage.py").write_text(SETDEFAULT.format("config.web.settings"))
    assert find_application(str(tmp_path)) == "config.web.wsgi"


@pytest.mark.parametrize(
    "text", ["", "print('hello')", SETDEFAULT.format("elsewhere.settings"), "DJANGO_SETTINGS_MODULE", SETDEFAULT.format("a b")]
)
def test_a_manage_py_that_does_not_help(tmp_path: Path, text: str) -> None:
    write(
        tmp_path,
        "shop/wsgi.py",
        "shop/settings/__init__.py",
        "static/wsgi.py",
        "not-a-package/wsgi.py",
        "not-a-package/settings.py",
    )
    (tmp_path / "manage.py").write_text(text)
    assert find_application(str(tmp_path)) == "shop.wsgi"


def test_several_projects_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, "a/wsgi.py", "a/settings.py", "b/wsgi.py", "b/settings.py")
    with pytest.raises(LoadError, match=r"has several: a\.wsgi, b\.wsgi"):
        find_application(str(tmp_path))


def test_nothing_found_says_what_was_looked_for_and_where(tmp_path: Path) -> None:
    with pytest.raises(LoadError) as caught:
        find_application(str(tmp_path))
    for words in (str(tmp_path), "app.py, wsgi.py", "manage.py", "*/wsgi.py"):
        assert words in str(caught.value)
