"""starman.server: the functions for embedding, as far as they can be tested without a process."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

import starman
from starman.errors import LoadError, SettingError, StartError


def application(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"embedded"]


def test_run_belongs_to_the_main_thread() -> None:
    caught: list[BaseException] = []

    def run() -> None:
        try:
            starman.run(application, listen="127.0.0.1:0")
        except StartError as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert "only the main thread" in str(caught[0])


def serve(*given: Any, **settings: Any) -> None:
    asyncio.run(starman.serve(*given, **settings))


@pytest.mark.parametrize(("function", "name"), [(starman.run, "run"), (serve, "serve")])
def test_a_factory_in_the_place_of_an_application_is_refused(function: Any, name: str) -> None:
    def create_app() -> Any:
        return application

    with pytest.raises(LoadError, match=rf"^cannot load {name}\(app\): it cannot be called with \(environ, start_response\)"):
        function(create_app, listen="127.0.0.1:0")


@pytest.mark.parametrize("function", [starman.run, serve])
def test_none_is_not_taken_for_the_application_of_the_directory(
    function: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "app.py").write_text("raise SystemExit\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingError, match="the application is None"):
        function(None, listen="127.0.0.1:0")


@pytest.mark.parametrize("function", [starman.run, serve])
def test_a_wrong_setting_is_named(function: Any) -> None:
    with pytest.raises(SettingError, match=r"run\(wrokers=...\).*did you mean 'workers'"):
        function(application, wrokers=3)


def test_serve_says_what_has_no_effect_and_stops_when_cancelled(capfd: pytest.CaptureFixture[str]) -> None:
    async def main() -> None:
        serving = asyncio.ensure_future(starman.serve(application, listen="127.0.0.1:0", port=5001, threads=1))
        heard = ""
        while "ready: 1 worker" not in heard and not serving.done():
            await asyncio.sleep(0.01)
            heard += capfd.readouterr().err
        assert "run(port=...) has no effect together with run(listen=...)" in heard
        serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await serving

    asyncio.run(main())
