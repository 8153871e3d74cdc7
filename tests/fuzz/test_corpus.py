"""Every input of the corpus passes its oracle; with atheris, a short run finds nothing new.

The extra `fuzz` installs atheris; `make fuzz` runs it for longer.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.oracle import CORPUS, ORACLES

_SHORT_SECONDS = 5
INPUTS = sorted(CORPUS.glob("*/*"))


def test_there_is_a_corpus_for_every_oracle() -> None:
    assert {path.parent.name for path in INPUTS} == ORACLES.keys()


@pytest.mark.parametrize("path", INPUTS, ids=[f"{path.parent.name}-{path.name[:12]}" for path in INPUTS])
def test_kept_inputs(path: Path) -> None:
    ORACLES[path.parent.name](path.read_bytes())


# Not a skip where it is missing: on a machine that is meant to have all tools, atheris may have no build.
if importlib.util.find_spec("atheris") is not None:

    @pytest.mark.parametrize("name", ORACLES)
    def test_a_short_run_finds_nothing(name: str, tmp_path: Path) -> None:
        command = [sys.executable, "-m", f"tests.fuzz.fuzz_{name}", f"-max_total_time={_SHORT_SECONDS}"]
        environ = {**os.environ, "FUZZ_FOUND": str(tmp_path)}
        run = subprocess.run(command, env=environ, capture_output=True, text=True, errors="replace", timeout=60, check=False)
        assert run.returncode == 0, run.stderr[-5000:]
