"""Wrong options of the commands, and which server is chosen."""

from __future__ import annotations

import pytest

from starman.commands import command_line
from starman.commands.client import CommandError


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("status --jsn", "unrecognized arguments: --jsn (did you mean --json?)"),
        ("stacks --forse=1", "unrecognized arguments: --forse=1 (did you mean --force?)"),
        ("reload now", "unrecognized arguments: now"),
        ("status --pid abc", "argument --pid: 'abc' is not a process id"),
        ("status --pid 0", "argument --pid: '0' is not a process id"),
        ("status --pid 99999999999999999999", "argument --pid: '99999999999999999999' is not a process id"),
        ("status --pid 12 --control /path", "argument --control: not allowed with argument --pid"),
        (
            "status --control off",
            "argument --control: 'off' is not a path; without --control, servers are found by their process ids",
        ),
        ("top --count -3", "argument --count: '-3' is not a whole number from 0 to 999999999"),
        ("top --interval 0", "argument --interval: '0' is not a number of seconds from 0.1 to 3600"),
        ("scale 2x", "argument WORKERS: '2x' is not a whole number from 1 to 1024"),
    ],
)
def test_a_wrong_option_is_named(words: str, problem: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command_line.main(words.split())
    assert ended.value.code == 2
    assert capsys.readouterr().err.splitlines()[-1] == f"starman-uv {words.split()[0]}: error: {problem}"


@pytest.mark.parametrize(
    ("words", "variable", "chosen"),
    [
        ("stop", "/from/variable", (None, "/from/variable")),
        ("stop --pid 12", "/from/variable", (12, None)),
        ("stop --control /from/option", "/from/variable", (None, "/from/option")),
        ("stop", "auto", (None, None)),
    ],
)
def test_an_option_goes_before_the_variable(
    words: str, variable: str, chosen: tuple[int | None, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """STARMAN_CONTROL is for the command without options: with --pid, another server would be stopped."""
    asked: list[tuple[int | None, str | None]] = []

    def connect(pid: int | None, control: str | None) -> None:
        asked.append((pid, control))
        raise CommandError("none")

    monkeypatch.setattr(command_line, "connect", connect)
    monkeypatch.setenv("STARMAN_CONTROL", variable)
    assert command_line.main(words.split()) == 1
    assert asked == [chosen]
