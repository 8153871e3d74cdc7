"""process.watching.reports: which files of a process are reported, and how they get through the pipe."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import starman.errors
from starman.process.watching.reports import LoadedFiles, ReportPipe, ReportReader, files_of_error, is_own, module_files


@pytest.fixture
def pipe() -> Iterator[ReportPipe]:
    pipe = ReportPipe()
    yield pipe
    pipe.close()


def received(pipe: ReportPipe) -> list[tuple[bool, str, int]]:
    return list(ReportReader(pipe.read_fd).read())


def test_files_and_directories_get_through(pipe: ReportPipe) -> None:
    pipe.send_files(["/a b.py", "/ü\udcff.py"], 17)
    pipe.send_directories(["/c"])
    assert received(pipe) == [(False, "/a b.py", 17), (False, "/ü\udcff.py", 17), (True, "/c", 0)]
    assert received(pipe) == [], "reading does not wait"


def test_a_path_that_does_not_fit_is_named_and_left_out(pipe: ReportPipe, capfd: pytest.CaptureFixture[str]) -> None:
    pipe.send_files(["/" + "x" * 5000, "/with\nline.py", "/good.py"], 1)
    assert received(pipe) == [(False, "/good.py", 1)]
    assert "is not watched" in capfd.readouterr().err


def test_more_reports_than_the_pipe_holds(pipe: ReportPipe) -> None:
    paths = [f"/{'directory' * 10}/{number}.py" for number in range(5000)]
    sender = threading.Thread(target=pipe.send_files, args=(paths, 1))
    sender.start()
    reader = ReportReader(pipe.read_fd)
    found: list[str] = []
    while sender.is_alive() or len(found) < len(paths):
        found += [path for _, path, _ in reader.read()]
    sender.join()
    assert found == paths


def test_a_pipe_that_nothing_reads_any_more_is_no_error() -> None:
    pipe = ReportPipe()
    os.close(pipe.read_fd)
    pipe.read_fd = -1
    pipe.send_files(["/a.py"], 1)
    pipe.close()


def test_the_files_of_an_application() -> None:
    assert module_files(["json", "pytest", "starman.errors", "sys", "missing", __name__]) == [os.path.abspath(__file__)]
    assert not is_own(json.__file__)
    assert not is_own(pytest.__file__)
    assert not is_own(starman.errors.__file__)


def test_only_new_modules_are_reported(pipe: ReportPipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "reported_once.py").write_text("")
    loaded_files = LoadedFiles(pipe)
    loaded_files.report()
    assert received(pipe) == []
    __import__("reported_once")
    try:
        loaded_files.report()
        assert received(pipe) == [(False, str(tmp_path / "reported_once.py"), loaded_files.began_at)]
        loaded_files.report()
        assert received(pipe) == []
    finally:
        del sys.modules["reported_once"]


def test_a_failure_reports_the_files_of_its_traceback_and_where_modules_may_appear(
    pipe: ReportPipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "outer_broken.py").write_text("import inner_broken")
    (tmp_path / "inner_broken.py").write_text("def")
    loaded_files = LoadedFiles(pipe)
    with pytest.raises(SyntaxError) as raised:
        __import__("outer_broken")
    wrapped = RuntimeError("cannot load")
    wrapped.__cause__ = raised.value
    wrapped.__context__ = wrapped  # a circle must not hang
    assert {str(tmp_path / "outer_broken.py"), str(tmp_path / "inner_broken.py")} <= set(files_of_error(wrapped))
    loaded_files.report_failure(wrapped, ["/no/such/directory"])
    reports = received(pipe)
    assert (False, str(tmp_path / "inner_broken.py"), loaded_files.began_at) in reports
    assert (True, str(tmp_path), 0) in reports
    assert not any(path == "/no/such/directory" or "site-packages" in path for _, path, _ in reports)
