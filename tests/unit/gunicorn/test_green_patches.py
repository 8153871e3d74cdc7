"""starman.gunicorn.green_patches: the patches of gevent and eventlet have no effect in a configuration."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from starman.gunicorn.green_patches import left_out


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package named gevent, whose patches would fail."""
    (tmp_path / "gevent").mkdir()
    (tmp_path / "gevent/__init__.py").write_text("__version__ = '1'\n")
    (tmp_path / "gevent/monkey.py").write_text("def patch_all():\n    raise AssertionError\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("gevent", "gevent.monkey", "eventlet"):
        monkeypatch.delitem(sys.modules, name, raising=False)


@pytest.mark.parametrize(
    "code",
    [
        "import gevent.monkey\ngevent.monkey.patch_all()",
        "from gevent import monkey\nmonkey.patch_all(thread=False)",
        "from gevent.monkey import patch_all\npatch_all()",
        "import gevent\nfrom gevent import monkey as patches\npatches.patch_all()\nassert gevent.monkey is patches",
        "import eventlet\neventlet.monkey_patch()",
    ],
)
@pytest.mark.usefixtures("package")
def test_a_patch_has_no_effect(code: str) -> None:
    with left_out():
        exec(code, {})
    assert "gevent.monkey" not in sys.modules
    assert "eventlet" not in sys.modules


@pytest.mark.usefixtures("package")
def test_the_package_is_whole_afterwards() -> None:
    with left_out():
        exec("import gevent.monkey", {})
    package = sys.modules["gevent"]
    assert not hasattr(package, "monkey")
    from gevent import monkey  # type: ignore[import-not-found, import-untyped, unused-ignore]

    with pytest.raises(AssertionError):
        monkey.patch_all()
