"""starman.process.worker.shared_imports: the mold imports what its workers need; the master does not."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from starman.process.worker.shared_imports import import_service
heavy = ("anyio", "asyncio", "httptools", "starman.process.worker.worker", "starman.serving.service", "uvloop")
print([name for name in heavy if name in sys.modules])
service = import_service()
print([name for name in heavy if name not in sys.modules], service.__name__)
"""


def test_everything_is_imported_at_the_call_and_nothing_before() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout.splitlines(), done.stderr) == (["[]", "[] Service"], "")
