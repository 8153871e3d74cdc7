"""Shows the progress of a run on standard error: a bar on a terminal, a line per step elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TextIO

WIDTH = 30


class Progress:
    """Counts steps of equal length. `total`: the number of steps."""

    def __init__(self, total: int, stream: TextIO = sys.stderr) -> None:
        self._total = max(1, total)
        self._stream = stream
        self._done = 0
        self._began = time.monotonic()
        self._bar = stream.isatty()
        self._doing = ""

    def step(self, doing: str, steps: int = 1) -> None:
        """Add finished steps. The text describes the last one."""
        self._done = min(self._total, self._done + steps)
        self._doing = doing
        if self._bar:
            self._draw()
        else:
            print(f"{self._done} of {self._total}: {doing}", file=self._stream, flush=True)

    def note(self, text: str) -> None:
        """Print a line that stays."""
        if self._bar:
            self._stream.write("\r\x1b[K")
        print(text, file=self._stream, flush=True)
        if self._bar and self._done:
            self._draw()

    def end(self) -> None:
        """Leave the bar and go to the next line."""
        if self._bar:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _draw(self) -> None:
        share = self._done / self._total
        elapsed = time.monotonic() - self._began
        left = int(elapsed / share - elapsed)
        filled = int(share * WIDTH)
        bar = "█" * filled + "░" * (WIDTH - filled)
        self._stream.write(f"\r\x1b[K{bar} {share:4.0%}  {left // 60}:{left % 60:02} left  {self._doing}"[:160])
        self._stream.flush()
