"""starman.process.worker_spec: the settings of a generation."""

from __future__ import annotations

from typing import Any

from starman.config.revision import encode_settings
from starman.config.settings import Settings
from starman.process.worker_spec import Program, WorkerSpec


def make_spec() -> WorkerSpec:
    unused: Any = None
    spec = WorkerSpec(Settings.of(chdir="."), [], Program(lambda _: unused), unused)
    spec.scoreboard = unused
    return spec


def test_a_worker_uses_the_settings_that_its_mold_has_decoded() -> None:
    """Decoding them again would write to memory that the mold and its workers share."""
    for text in ("", encode_settings(Settings.of(threads=7))):
        of_the_mold = make_spec().with_settings(text)
        assert of_the_mold.with_settings(text) is of_the_mold
        assert of_the_mold.settings.threads == (7 if text else Settings.of().threads)


def test_other_settings_make_another_spec() -> None:
    of_the_mold = make_spec().with_settings(encode_settings(Settings.of(threads=7)))
    assert of_the_mold.with_settings(encode_settings(Settings.of(threads=8))).settings.threads == 8
    assert of_the_mold.with_settings("").settings.threads == 7
