"""docs/troubleshooting.md has the messages of the server: each quoted one is in the code, and each that needs a cause
and a cure is quoted."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PAGE = REPOSITORY / "docs" / "troubleshooting.md"
# What varies in a message: a replacement field in the code, on the page, or a part of it that is left out there.
VARIES = "…"

# What has its message in the first argument. SettingError is not among them: its message says what to write.
SPEAKS = {"warning", "error", "critical", "StartError", "ListenError", "LoadError", "NoApplicationError", "WarmUpError"}
# The beginnings of messages that only a fault of starman brings about, or a process that attacks it.
FAULTS_OF_STARMAN = (
    *("a connection could not be made", "a connection is reset, because checking", "an exchange failed inside starman"),
    *("a thread of the pool was interrupted", "ignored a message from", "process … may not be signalled"),
    *("the callback of a job failed", "the event loop reports", "the hook process ignores", "the master could not carry"),
    *("the master failed and continues", "the mold (the process that forks workers) ignores", "the mold failed"),
    *("the observer does not respond", "the observer failed", "the process that watches files failed", "worker … failed"),
    *("the requests of … are not traced", "… has sent over … messages"),
)


def text_of(node: ast.AST) -> str:
    """The text of a literal, with VARIES for each replacement field; "" for what is no text."""
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else ""
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) or VARIES for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return (text_of(node.left) or VARIES) + (text_of(node.right) or VARIES)
    return text_of(node.body) if isinstance(node, ast.IfExp) else ""


@functools.cache
def trees() -> list[ast.Module]:
    return [ast.parse(path.read_text()) for path in sorted((REPOSITORY / "starman").rglob("*.py"))]


@functools.cache
def texts() -> list[str]:
    """Every text in the code."""
    return [flat(text) for tree in trees() for node in ast.walk(tree) if (text := text_of(node))]


def messages() -> Iterator[str]:
    """The texts that are logged as warnings and errors, and of errors that end a start."""
    for tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and node.args:
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                text = flat(text_of(node.args[0]))
                if name in SPEAKS and len(" ".join(parts(text))) > 12:
                    yield text


def flat(text: str) -> str:
    return " ".join(text.split())


def parts(text: str) -> list[str]:
    """What does not vary, without punctuation at the ends."""
    found = (part.strip(" ,;:.()%'") for part in text.split(VARIES))
    return [part for part in found if len(part) > 2]


def quoted() -> list[str]:
    """The messages that the page quotes."""
    entries: list[str] = re.findall(r"(?ms)^- (`.+?`)(?=:\s)", PAGE.read_text())
    return [quote for entry in entries for quote in re.findall(r"`(.+?)`", flat(entry))]


def says(message: str, quote: str) -> bool:
    """Whether a text of the code has all parts of the quotation, in order."""
    at = 0
    for part in parts(quote):
        at = message.find(part, at) + len(part)
        if at < len(part):
            return False
    return True


@pytest.mark.parametrize("quote", quoted())
def test_a_quoted_message_is_in_the_code(quote: str) -> None:
    assert parts(quote)
    assert any(says(text, quote) for text in texts())


@pytest.mark.parametrize("message", sorted(set(messages())))
def test_a_message_has_its_entry(message: str) -> None:
    assert any(says(message, quote) for quote in quoted()) or message.startswith(FAULTS_OF_STARMAN)
