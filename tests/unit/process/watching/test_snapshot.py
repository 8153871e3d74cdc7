"""process.watching.snapshot: which files have changed, on a real file system."""

from __future__ import annotations

import os
import time
from pathlib import Path

from starman.process.watching.snapshot import Snapshot


def changes(snapshot: Snapshot) -> set[str]:
    """The names of the files that have changed."""
    return {os.path.basename(path) for path in snapshot.find_changes(patterns=True)}


def test_changed_removed_and_new_files_are_found_once(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("1")
    snapshot = Snapshot()
    assert not snapshot.add_file(str(file), time.time_ns() + 10**9)
    assert changes(snapshot) == set()
    file.write_text("22")
    assert changes(snapshot) == {"a.py"}
    assert changes(snapshot) == set()
    file.unlink()
    assert changes(snapshot) == {"a.py"}
    assert changes(snapshot) == set()
    file.write_text("22")
    assert changes(snapshot) == {"a.py"}


def test_a_file_that_is_replaced_by_one_of_the_same_time_and_size_has_changed(tmp_path: Path) -> None:
    file, other = tmp_path / "a.py", tmp_path / "b.py"
    file.write_text("1")
    other.write_text("2")
    os.utime(file, ns=(5, 5))
    os.utime(other, ns=(5, 5))
    snapshot = Snapshot()
    snapshot.add_file(str(file), 10)
    other.replace(file)
    assert changes(snapshot) == {"a.py"}


def test_reading_a_file_and_its_permissions_are_no_change(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("1")
    snapshot = Snapshot()
    snapshot.add_file(str(file), time.time_ns())
    file.read_text()
    file.chmod(0o600)
    assert changes(snapshot) == set()


def test_a_file_that_has_changed_since_its_process_began_is_reported_once(tmp_path: Path) -> None:
    file = tmp_path / "a.py"
    file.write_text("1")
    os.utime(file, ns=(100, 100))
    snapshot = Snapshot()
    assert snapshot.add_file(str(file), 99)
    assert not snapshot.add_file(str(file), 99), "a clock that is behind must not reload for ever"
    assert snapshot.add_file(str(tmp_path / "gone.py"), 99)


def test_globs_find_new_and_removed_files(tmp_path: Path) -> None:
    below = tmp_path / "templates" / "shop"
    below.mkdir(parents=True)
    (below / "a.html").write_text("1")
    snapshot = Snapshot([str(tmp_path / "**" / "*.html"), str(tmp_path / ".env")])
    assert changes(snapshot) == set()
    (below / "a.html").write_text("22")
    (below / "b.html").write_text("1")
    (below / "c.txt").write_text("1")
    assert changes(snapshot) == {"a.html", "b.html"}
    (below / "a.html").unlink()
    (tmp_path / ".env").write_text("1")
    assert changes(snapshot) == {"a.html", ".env"}


def test_between_two_expansions_known_matches_are_compared(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("1")
    snapshot = Snapshot([str(tmp_path / "*.html")])
    (tmp_path / "a.html").write_text("22")
    (tmp_path / "b.html").write_text("1")
    assert snapshot.find_changes(patterns=False) == [str(tmp_path / "a.html")]
    assert snapshot.find_changes(patterns=True) == [str(tmp_path / "b.html")]


def test_a_directory_is_watched_until_it_is_forgotten(tmp_path: Path) -> None:
    snapshot = Snapshot()
    snapshot.add_directory(str(tmp_path))
    (tmp_path / "missing.py").write_text("")
    (tmp_path / "package").mkdir()
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "server.log").write_text("")
    assert changes(snapshot) == {"missing.py", "package"}
    (tmp_path / "missing.py").write_text("1")
    (tmp_path / "package" / "__init__.py").write_text("1")
    assert changes(snapshot) == {"missing.py"}
    snapshot.forget_directories()
    (tmp_path / "missing.py").write_text("22")
    assert changes(snapshot) == set()


def test_places_are_the_directories_of_files_and_of_their_targets(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.py").write_text("")
    (tmp_path / "site").mkdir()
    link = tmp_path / "site" / "a.py"
    link.symlink_to(tmp_path / "real" / "a.py")
    snapshot = Snapshot()
    snapshot.moved = False
    snapshot.add_file(str(link), time.time_ns())
    assert snapshot.moved
    assert snapshot.places() == {str(tmp_path / "site"), str((tmp_path / "real").resolve())}
    assert snapshot.is_of_interest(str(link))
    assert snapshot.is_of_interest(str(tmp_path / "b.py"))
    assert not snapshot.is_of_interest(str(tmp_path / "site" / "db.sqlite3"))
