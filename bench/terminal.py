"""Draws a recording as an animated SVG: a terminal above, and the responses of each moment below.

CSS animates it, in a loop; no script and no font is loaded. It follows the colour scheme of the reader. Where motion
is not wanted (`prefers-reduced-motion`), it shows the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from xml.sax.saxutils import escape

# The end stays for this time before the recording begins again.
HOLD_SECONDS = 4.0
WIDTH, MARGIN = 860, 20
LINE_HEIGHT, FIRST_LINE, CHARACTERS = 18, 50, 112
BARS_HEIGHT, CAPTION = 110, 34
# The counters change so often, to be readable: every second moment.
EVERY = 2
STYLE = """
text { font: 12px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2328;
  white-space: pre }
.card { fill: #f6f8fa; stroke: #d1d9e0 } .prompt { fill: #1a7f37 } .dot { fill: #d1d9e0 } .axis { stroke: #d1d9e0 }
.old { fill: #0969da } .new { fill: #d55e00 } .failed { fill: #cf222e } .quiet { fill: #59636e }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .card { fill: #0d1117; stroke: #3d444d } .prompt { fill: #3fb950 } .dot { fill: #3d444d }
  .axis { stroke: #3d444d } .old { fill: #4493f8 } .new { fill: #f0883e } .failed { fill: #f85149 } .quiet { fill: #9198a1 }
}
"""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the terminal, which appears at `at` seconds behind its prompt."""

    at: float
    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class Recording:
    """`moments`: time in seconds, responses of the old and the new code, failed requests."""

    lines: tuple[Line, ...]
    moments: tuple[tuple[float, int, int, int], ...]
    connections: int
    longest_ms: float


def draw(recording: Recording) -> str:
    """The SVG. The same recording makes the same text."""
    animation = _Animation(recording.moments[-1][0] + HOLD_SECONDS)
    drawn: list[str] = []
    y = FIRST_LINE
    for line in recording.lines:
        show = animation.appear(line.at) if line.at else ""
        prompt = f'<tspan class="prompt">{line.prompt}</tspan>' if line.prompt else ""
        drawn.append(f'<text{show} x="{MARGIN}" y="{y}">{prompt}{escape(_cut(line.text))}</text>')
        y += LINE_HEIGHT
    base = y + CAPTION + BARS_HEIGHT
    drawn.append(f'<text class="quiet" x="{MARGIN}" y="{y + 18}">responses in each tenth of a second: </text>')
    drawn.append(f'<text class="old" x="{MARGIN + 275}" y="{y + 18}">version 1</text>')
    drawn.append(f'<text class="new" x="{MARGIN + 355}" y="{y + 18}">version 2</text>')
    drawn += _bars(recording, animation, base)
    drawn += _counters(recording, animation, base + 26)
    height = base + 44
    dots = "".join(f'<circle class="dot" cx="{MARGIN + 5 + 18 * number}" cy="20" r="5.5"/>' for number in range(3))
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" role="img">',
            f"<title>{escape(_summary(recording))}</title>",
            f"<style>{STYLE}{animation.style()}</style>",
            f'<rect class="card" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="8"/>{dots}',
            *drawn,
            "</svg>",
            "",
        ]
    )


def _summary(recording: Recording) -> str:
    answered = sum(old + new for _, old, new, _ in recording.moments)
    failed = sum(failed for *_, failed in recording.moments)
    return f"A restart under load: {answered:,} responses, {failed} failed; the longest took {recording.longest_ms:.0f} ms"


def _bars(recording: Recording, animation: _Animation, base: int) -> list[str]:
    step = (WIDTH - 2 * MARGIN) / len(recording.moments)
    highest = max(old + new + failed for _, old, new, failed in recording.moments)
    drawn = [f'<path class="axis" d="M{MARGIN} {base + 0.5}H{WIDTH - MARGIN}"/>']
    for number, (at, *counts) in enumerate(recording.moments):
        y = float(base)
        bars = ""
        for kind, count in zip(("old", "new", "failed"), counts, strict=True):
            if count:
                height = BARS_HEIGHT * count / highest
                y -= height
                place = f'x="{MARGIN + number * step:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{height:.1f}"'
                bars += f'<rect class="{kind}" {place}/>'
        drawn.append(f"<g{animation.appear(at)}>{bars}</g>")
    return drawn


def _counters(recording: Recording, animation: _Animation, y: int) -> list[str]:
    """A text for every second moment. Each is shown until the next; without motion, the last one is."""
    drawn = []
    answered = failed = 0
    times = [at for at, *_ in recording.moments]
    for number, (at, old, new, lost) in enumerate(recording.moments):
        answered += old + new
        failed += lost
        last = number == len(recording.moments) - 1
        if number % EVERY and not last:
            continue
        until = None if last else times[min(number + EVERY, len(times) - 1)]
        told = f"{at:4.1f} s   {answered:>7,} responses over {recording.connections} connections   "
        longest = f"   longest {recording.longest_ms:.0f} ms" if last else ""
        count = f'<tspan class="{"failed" if failed else "prompt"}">{failed} failed</tspan>'
        drawn.append(f'<text{animation.between(at, until)} x="{MARGIN}" y="{y}">{told}{count}{longest}</text>')
    return drawn


def _cut(text: str) -> str:
    return text if len(text) <= CHARACTERS else f"{text[: CHARACTERS - 1]}…"


class _Animation:
    """Keyframes: each instant at which something appears or goes has one rule, of a loop of `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._rules: dict[tuple[float, float | None], str] = {}

    def appear(self, at: float) -> str:
        """The class attribute of what is shown from here on, also without motion."""
        return f' class="{self._rule(at, None)}"'

    def between(self, at: float, until: float | None) -> str:
        """The class attribute of what is shown from `at` to `until`, or to the end."""
        return f' class="{self._rule(at, until)}{"" if until is None else " moving"}"'

    def style(self) -> str:
        """The rules. What only moves is hidden without them."""
        rules = "".join(
            f".{name} {{ animation: {name} {self._seconds:.1f}s step-end infinite }}\n"
            f"@keyframes {name} {{ 0% {{ opacity: 0 }} {self._share(at)} {{ opacity: 1 }}"
            f"{'' if until is None else f' {self._share(until)} {{ opacity: 0 }}'} }}\n"
            for (at, until), name in self._rules.items()
        )
        return f".moving {{ opacity: 0 }}\n@media (prefers-reduced-motion: no-preference) {{\n{rules}}}\n"

    def _rule(self, at: float, until: float | None) -> str:
        return self._rules.setdefault((at, until), f"t{len(self._rules)}")

    def _share(self, at: float) -> str:
        return f"{100 * at / self._seconds:.2f}%"
