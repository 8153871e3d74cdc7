"""The hand-over: what the master's image of before USR2 tells the one that it execs, as text in an environment variable. No I/O.

Two versions of starman, and of Python, may stand at its two ends: hence plain text, and a number for its format. A trial
has told before whether the new version knows that number.
"""

from __future__ import annotations

import os

from starman.process.record import Record

# To be counted up whenever an older version could not read, or a newer one not do without, what is changed here, in
# `messages.py`, or in what signals mean to workers.
FORMAT = 4
# "FORMAT:DESCRIPTOR:": this process is to try, and to answer over that channel. It is sent the settings that run (`longtext.py`).
TRIAL_VARIABLE = "STARMAN_TRIAL"
# The text of a `Handover`: this process is to take over. Or IN_FILE and the descriptor of a file with that text.
HANDOVER_VARIABLE = "STARMAN_HANDOVER"
IN_FILE = "file "
# The longest text (characters) that the variable itself has: all variables and arguments share the room that exec(3) gives.
MOST_IN_VARIABLE = 32_000


class HandedListener(Record):
    """A listening socket. address: what was asked for, as text. file: path, device and inode of a UNIX socket that is ours."""

    __slots__ = ("address", "fd", "file", "secure")

    def __init__(self, fd: int, address: str, *, secure: bool, file: tuple[str, int, int] | None) -> None:
        self.fd = fd
        self.address = address
        self.secure = secure
        self.file = file


class Veteran(Record):
    """A worker of the old image: process id, the master's end of its channel, the numbers of its slot and of its place on the
    scoreboard.

    ready_at and deadline are monotonic instants, valid on this machine. deadline: when a worker that is ending is killed; 0 for a
    worker that serves. to_replace: whether the worker has asked to be replaced, which it does once. stacks: the descriptor from
    which its stacks are read; -1: none.
    """

    __slots__ = ("deadline", "fd", "pid", "place", "ready_at", "slot", "stacks", "to_replace")

    def __init__(self, pid: int, fd: int, slot: int, place: int, ready_at: float, deadline: float) -> None:
        self.pid = pid
        self.fd = fd
        self.slot = slot
        self.place = place
        self.ready_at = ready_at
        self.deadline = deadline
        self.to_replace = False
        self.stacks = -1


class Handover(Record):
    """Everything. slots: how many workers there shall be; workers: what the settings said about that.

    settings: those that the trial has found good, encoded by the new version itself (`starman.config.revision`).
    scoreboard: its descriptor, -1 for none.
    reopening: whether somebody has still to open the logs again, so that everybody is to be told once more.
    restarting: whether settings may have changed since the trial has read them, so that a restart is to follow.
    """

    __slots__ = ("listeners", "reopening", "restarting", "scoreboard", "settings", "slots", "veterans", "workers")

    def __init__(self, settings: str, slots: int, workers: int, listeners: list[HandedListener], veterans: list[Veteran]) -> None:
        self.settings = settings
        self.slots = slots
        self.workers = workers
        self.listeners = listeners
        self.veterans = veterans
        self.scoreboard = -1
        self.reopening = False
        self.restarting = False

    def fds(self) -> list[int]:
        """The descriptors that are handed on."""
        board = [self.scoreboard] if self.scoreboard >= 0 else []
        stacks = [veteran.stacks for veteran in self.veterans if veteran.stacks >= 0]
        return [*(listener.fd for listener in self.listeners), *(veteran.fd for veteran in self.veterans), *stacks, *board]


def encode(handover: Handover) -> str:
    """The text of `handover`: a line each, fields between spaces, texts in hexadecimal."""
    lines = [f"format {FORMAT}", f"settings {handover.settings}", f"slots {handover.slots} {handover.workers}"]
    lines.append(f"scoreboard {handover.scoreboard}")
    for listener in handover.listeners:
        path, device, inode = listener.file or ("", 0, 0)
        address = os.fsencode(listener.address).hex()
        lines.append(f"listener {listener.fd} {address} {int(listener.secure)} {device} {inode} {os.fsencode(path).hex()}")
    for worker in handover.veterans:
        life = f"{worker.ready_at!r} {worker.deadline!r} {int(worker.to_replace)} {worker.stacks}"
        lines.append(f"worker {worker.pid} {worker.fd} {worker.slot} {worker.place} {life}")
    lines += ["reopening"] if handover.reopening else []
    lines += ["restarting"] if handover.restarting else []
    return "\n".join(lines)


def decode(text: str) -> Handover:
    """The hand-over of that text. Raises ValueError for any that `encode` of the same format cannot have made."""
    first, *lines = text.split("\n")
    if first != f"format {FORMAT}":
        raise ValueError(f"a hand-over in another format than {FORMAT}: {first!r}")
    handover = Handover("", 0, 0, [], [])
    for line in lines:
        kind, *fields = line.split(" ")
        if kind == "settings":
            (handover.settings,) = fields
        elif kind == "slots":
            handover.slots, handover.workers = (int(field) for field in fields)
        elif kind == "scoreboard":
            (handover.scoreboard,) = (int(field) for field in fields)
        elif kind == "listener":
            fd, address, secure, device, inode, path = fields
            file = (_text(path), int(device), int(inode)) if path else None
            handover.listeners.append(HandedListener(int(fd), _text(address), secure=secure == "1", file=file))
        elif kind == "worker":
            pid, fd, slot, place, ready_at, deadline, to_replace, stacks = fields
            veteran = Veteran(int(pid), int(fd), int(slot), int(place), float(ready_at), float(deadline))
            veteran.to_replace, veteran.stacks = to_replace == "1", int(stacks)
            handover.veterans.append(veteran)
        else:
            _take_wish(handover, kind)
    if handover.slots < 1:
        raise ValueError("a hand-over without workers")
    return handover


def _take_wish(handover: Handover, kind: str) -> None:
    if kind == "reopening":
        handover.reopening = True
    elif kind == "restarting":
        handover.restarting = True
    else:
        raise ValueError(f"a hand-over knows no {kind!r}")


def _text(field: str) -> str:
    return os.fsdecode(bytes.fromhex(field))
