"""starman.process.master.reload: the warnings of settings that are read again."""

from __future__ import annotations

from typing import Any

from starman.config.revision import encode_settings
from starman.config.settings import Settings
from starman.process.master.reload import Reload, terms_of
from starman.process.messages import Approved
from starman.process.supervision.supervisor import Supervisor
from starman.process.worker.shared_imports import import_service
from starman.process.worker_spec import Program, WorkerSpec


def test_only_warnings_that_the_settings_in_use_do_not_have_are_logged() -> None:
    plain, warned = Settings.of(), Settings.of(stream_body=True, stream_body_path=["/up"])
    (warning,) = warned.warnings()
    nothing: Any = None

    def notes(start: Settings, in_use: Settings, read: Settings) -> str:
        program = Program(lambda _: nothing, reread=lambda: read)
        supervisor = Supervisor(terms_of(in_use, loads=True, text=encode_settings(in_use)))
        found = Reload(WorkerSpec(start, [], program, import_service), supervisor, nothing)._read_settings(nothing)
        assert isinstance(found, Approved)
        return found.notes

    assert notes(plain, plain, warned) == warning
    assert notes(plain, warned, warned) == ""
    assert notes(warned, plain, warned) == warning
    assert notes(warned, plain, plain) == ""
