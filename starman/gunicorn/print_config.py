"""The texts of --print-config and --to-toml."""

from __future__ import annotations

import re

from starman.config.option import OPTIONS, GivenValue
from starman.gunicorn.mapping.outcomes import Fate, Outcome, Outcomes
from starman.gunicorn.mapping.tables import HOOKS_MODULE

_WIDEST = 40
_LOGGERS = (
    "# Without `gunicorn` on the command line, the loggers gunicorn.error and gunicorn.access have no handlers. If the",
    "# application logs through their handlers, call logging.basicConfig(level=logging.INFO) in it instead",
    '# (docs/coming-from-gunicorn.md, "Move on to starman\'s own settings").',
)
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def table(outcomes: Outcomes) -> str:
    """Each setting of gunicorn with its value, its source, and what became of it, in aligned columns. Then, with the
    name "-", the settings of starman that have another reason, such as what gunicorn does not limit."""
    rows = [(outcome.name, outcome.value, outcome.source, _fate(outcome)) for outcome in outcomes.found]
    rows += [("-", "", source, f"-> {text}") for text, source in outcomes.further.values()]
    widths = [min(_WIDEST, max((len(row[column]) for row in rows), default=0)) for column in range(3)]
    return "\n".join(
        "  ".join([*(f"{text:{width}}" for text, width in zip(row[:3], widths, strict=True)), row[3]]).rstrip() for row in rows
    )


def _fate(outcome: Outcome) -> str:
    return f"-> {outcome.text}" if outcome.fate is Fate.MAPPED else f"{outcome.fate.value}: {outcome.text}"


class Toml:
    """The text of --to-toml. missing: the settings that the text has as a comment only, because TOML cannot hold their
    value, with the reasons; "" for none."""

    __slots__ = ("missing", "text")

    def __init__(self, text: str, missing: str) -> None:
        self.text = text
        self.missing = missing


def toml(outcomes: Outcomes) -> Toml:
    """The settings as a file for `starman-uv --config`, and what is missing in it as comments."""
    lines = ["# Made by `starman-uv gunicorn --to-toml`. Values that the configuration has computed are fixed here.", ""]
    given = {**outcomes.defaults, **outcomes.given}
    names = [name for name in OPTIONS if name in given and given[name].value != HOOKS_MODULE]
    tables: list[str] = []
    failures: list[str] = []
    for name in names:
        value, source = given[name].value, given[name].source
        if not isinstance(value, dict):
            lines.append(f"{name} = {_value(name, given[name])}  # {source}")
            continue
        try:
            tables += ["", f"# {source}", *_table_lines(name, value)]
        except ValueError as error:
            failures.append(f"{source}: {error}")
            lines.append(f"# {name} is missing: {failures[-1]}")
    if "hooks" in given:
        lines.append("# hooks = ...  # name a module of your own with the hooks, written for starman (docs/hooks.md)")
    lines += ["", *_LOGGERS]
    missing = [outcome for outcome in outcomes.found if outcome.fate in (Fate.UNSUPPORTED, Fate.HARMLESS)]
    if missing:
        lines += ["", "# Settings of gunicorn that have no counterpart:"]
        lines += [f"# {outcome.name} = {outcome.value}: {_fate(outcome)}" for outcome in missing]
    # Tables are last: what follows the head of a table belongs to it.
    return Toml("\n".join([*lines, *tables]), "; ".join(failures))


def _table_lines(name: str, table: dict[str, object]) -> list[str]:
    """A mapping of plain data as the table `name` of TOML, its own tables after its values. Raises ValueError."""
    lines: list[str] = []
    tables: list[str] = []
    for key, value in table.items():
        written = key if _BARE_KEY.fullmatch(key) else _quoted(key)
        if isinstance(value, dict):
            tables += ["", *_table_lines(f"{name}.{written}", value)]
        else:
            lines.append(f"{written} = {_plain_value(f'{name}.{written}', value)}")
    if tables and not lines:
        return tables[1:]  # the heads of the inner tables make this one too
    return [f"[{name}]", *lines, *tables]


def _plain_value(name: str, value: object) -> str:
    """Plain data as TOML on one line. `name`: where it is, for the ValueError about None."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return repr(value)  # inf and nan are the same words in TOML
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list):
        return f"[{', '.join(_plain_value(name, item) for item in value)}]"
    if isinstance(value, dict):
        items = (f"{_quoted(key)} = {_plain_value(f'{name}.{key}', item)}" for key, item in value.items())
        return "{" + ", ".join(items) + "}"
    raise ValueError(f"{name} is {value!r}, which TOML cannot hold; leave the key out if the default of its class is the same")


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
