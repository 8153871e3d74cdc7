"""starman.process.master.trial: the outcomes of a trial."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from starman.process.channel import Channel
from starman.process.forking import STACKS
from starman.process.long_messages import receive_text
from starman.process.master import trial as module
from starman.process.master.links import Links
from starman.process.master.reaper import Reaper, describe
from starman.process.master.signals import SignalQueue
from starman.process.master.trial import Trial
from starman.process.message_base import IN_PARTS, PACKET_BYTES, Message
from starman.process.messages import Approved, Failed, Part
from tests.unit.process.forked import run_forked

SECONDS = 60.0


class Supervision:
    """The parts of a master that a trial needs."""

    def __init__(self) -> None:
        self.reaper = Reaper(everything=True)
        self.links = Links(SignalQueue())
        self.trial = Trial(0, self.links, self.reaper, self.links.abandon)

    def outcome(self) -> Approved | Failed:
        """Run the loop until the trial has an outcome."""
        deadline = time.monotonic() + SECONDS
        while (now := time.monotonic()) < deadline:
            for pid, status in self.reaper.reap(now):
                link = self.links.find_link_by_pid(pid)
                if link is not None:
                    self.handle_messages()
                    self.links.remove_link(link)
                    self.trial.on_gone(describe(status))
            outcome = self.trial.take_outcome(now)
            if outcome is not None:
                return outcome
            self.links.wait_for_messages(0.01)
            self.handle_messages()
        raise AssertionError("the trial has no outcome")

    def handle_messages(self) -> None:
        link = self.links.find_link(0)
        if link is not None:
            for message in self.links.read_messages(link):
                self.trial.on_message(message)


def tried(function: Callable[[Channel], Message], seconds: float = SECONDS) -> str:
    """The outcome of a trial in a process of its own."""

    def in_child() -> str:
        supervision = Supervision()
        before = len(os.listdir("/proc/self/fd"))
        supervision.trial.start(function, seconds)
        outcome = supervision.outcome()
        assert supervision.trial.deadline is None
        supervision.trial.cancel()
        assert len(os.listdir("/proc/self/fd")) == before
        return repr(outcome)

    return run_forked(in_child)


def test_the_child_does_not_log_its_stacks_as_those_of_the_master(capfd: pytest.CaptureFixture[str]) -> None:
    def show(channel: Channel) -> Message:
        os.kill(os.getpid(), STACKS)
        return Approved("settings", "notes")

    assert tried(show) == repr(Approved("settings", "notes"))
    log = capfd.readouterr().err
    assert "[INFO] stacks of this process\n" in log
    assert "the master" not in log


def test_the_message_of_the_function_is_the_outcome() -> None:
    assert tried(lambda _: Approved("settings", "notes")) == repr(Approved("settings", "notes"))


def test_long_texts_arrive_whole_in_both_directions() -> None:
    text = "0123456789abcdef" * 50_000
    assert len(text) > 20 * PACKET_BYTES

    def in_child() -> str:
        supervision = Supervision()
        supervision.trial.start(lambda channel: Approved(receive_text(channel)[::-1], "notes"), SECONDS, text)
        return str(supervision.outcome() == Approved(text[::-1], "notes"))

    assert run_forked(in_child) == "True"


def test_an_incomplete_answer_is_a_failure() -> None:
    def play(channel: Channel) -> Message:
        channel.send(Part(2, 3, "x"))
        return Approved(IN_PARTS)

    assert tried(play) == repr(Failed("the process that tried it sent a message without its text"))


def test_an_error_is_a_failure_with_its_traceback() -> None:
    found = tried(lambda _: Approved("".removesuffix(None)))  # type: ignore[arg-type]
    assert found.startswith("Failed(details='Traceback")
    assert "message='TypeError: " in found


@pytest.mark.parametrize(("status", "how"), [(0, "exited with status 0"), (7, "exited with status 7")])
def test_an_end_without_a_message_is_a_failure(status: int, how: str) -> None:
    assert tried(lambda _: os._exit(status)) == repr(Failed(f"the process that tried it {how}"))


def test_a_trial_that_takes_too_long_is_a_failure() -> None:
    def sleep(_: Channel) -> Message:
        time.sleep(SECONDS)
        return Approved("")

    assert tried(sleep, 0.05) == repr(Failed("the process that tried it did not answer within 0.05 s"))


def test_a_new_trial_cancels_the_one_under_way() -> None:
    def sleep(_: Channel) -> Message:
        time.sleep(SECONDS)
        return Approved("")

    def in_child() -> str:
        supervision = Supervision()
        supervision.trial.start(sleep, SECONDS)
        supervision.trial.start(lambda _: Approved("second"), SECONDS)
        return repr(supervision.outcome())

    assert run_forked(in_child) == repr(Approved("second"))


def test_a_trial_without_a_process_or_a_channel_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> int:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(module, "fork", refuse)
    refused = Failed("cannot create a process: Resource temporarily unavailable")
    assert tried(lambda _: Approved("")) == repr(refused)
    monkeypatch.setattr(Links, "open_link", lambda *_: refuse())
    assert tried(lambda _: Approved("")) == repr(Failed("cannot create a channel: Resource temporarily unavailable"))
