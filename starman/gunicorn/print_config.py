"""The texts of --print-config and --to-toml."""

from __future__ import annotations

from starman.config.option import OPTIONS, GivenValue
from starman.gunicorn.mapping_tables import HOOKS_MODULE
from starman.gunicorn.setting_outcomes import Fate, Outcome, Outcomes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDEST = 40


def table(found: Iterable[Outcome]) -> str:
    """Each setting of gunicorn with its value, its source, and what became of it, in aligned columns."""
    rows = [(outcome.name, outcome.value, outcome.source, _fate(outcome)) for outcome in found]
    widths = [min(_WIDEST, max((len(row[column]) for row in rows), default=0)) for column in range(3)]
    return "\n".join(
        "  ".join([*(f"{text:{width}}" for text, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip() for row in rows
    )


def _fate(outcome: Outcome) -> str:
    return f"-> {outcome.text}" if outcome.fate is Fate.MAPPED else f"{outcome.fate.value}: {outcome.text}"


def toml(outcomes: Outcomes) -> str:
    """The settings as a file for `starman-uv --config`, and what is missing in it as comments."""
    lines = ["# Made by `starman-uv gunicorn --to-toml`. Values that the configuration has computed are fixed here.", ""]
    given = {**outcomes.defaults, **outcomes.given}
    names = [name for name in OPTIONS if name in given and given[name].value != HOOKS_MODULE]
    lines += [f"{name} = {_value(name, given[name])}  # {given[name].source}" for name in names]
    if "hooks" in given:
        lines.append("# hooks = ...  # name a module of your own with the hooks, written for starman (docs/hooks.md)")
    missing = [outcome for outcome in outcomes.found if outcome.fate in (Fate.UNSUPPORTED, Fate.HARMLESS)]
    if missing:
        lines += ["", "# Settings of gunicorn that have no counterpart:"]
        lines += [f"# {outcome.name} = {outcome.value}: {_fate(outcome)}" for outcome in missing]
    return "\n".join(lines)


def _value(name: str, given: GivenValue) -> str:
    """A value in TOML, as the setting's kind reads it."""
    option = OPTIONS[name]
    parsed = option.parse(given.value, given.source)
    if isinstance(parsed, tuple):
        return f"[{', '.join(_quoted(option.kind.show((item,))) for item in parsed)}]"
    if isinstance(parsed, bool) or option.boolean:
        return "true" if parsed else "false"
    text = "-" if parsed is None else option.show(parsed)
    return text if (text.isdigit() and not text.startswith("0")) or text == "0" else _quoted(text)


def _quoted(text: str) -> str:
    """A basic string of TOML."""
    escapes = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(each) or (each if each.isprintable() else f"\\U{ord(each):08x}") for each in text) + '"'
