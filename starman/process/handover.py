"""The handover: what the master passes to itself through the exec of an upgrade (USR2). No I/O.

It is text in an environment variable, with a number for its format, because the two sides may be different versions of
starman and of Python. Before the exec, a trial has checked that the new version reads this format.
"""

from __future__ import annotations

import os

from starman.process.value_class import Record

# Increase it with every incompatible change of this module, of `messages.py`, or of what signals mean to workers: when
# an older version could not read the new text, or a newer version the old one.
FORMAT = 6
# "FORMAT:DESCRIPTOR:": this process is a trial, and answers over that channel. The settings in use arrive there
# (`long_messages.py`).
TRIAL_VARIABLE = "STARMAN_TRIAL"
# The text of a `Handover`: this process takes over. Or IN_FILE and the descriptor of a file with that text.
HANDOVER_VARIABLE = "STARMAN_HANDOVER"
IN_FILE = "file "
# A longer text (characters) goes into a file: all variables and arguments share the room that exec(3) has.
MOST_IN_VARIABLE = 32_000


class HandedListener(Record):
    """A listening socket. address: as configured, in text. file: path, device and inode of the server's own UNIX
    socket."""

    __slots__ = ("address", "fd", "file", "secure")

    def __init__(self, fd: int, address: str, *, secure: bool, file: tuple[str, int, int] | None) -> None:
        self.fd = fd
        self.address = address
        self.secure = secure
        self.file = file


class HandedControl(Record):
    """The control socket. name: its path, or "@" and its abstract name. file: device and inode of the file; None: it
    has none."""

    __slots__ = ("fd", "file", "name")

    def __init__(self, fd: int, name: str, file: tuple[int, int] | None) -> None:
        self.fd = fd
        self.name = name
        self.file = file


class HandedWorker(Record):
    """A worker from before the upgrade: process id, the master's end of its channel, the numbers of its slot and of
    its page of the scoreboard.

    ready_at and deadline are monotonic instants, valid on this machine. deadline: when a draining worker is killed; 0
    for a worker that serves. to_replace: whether the worker has requested its replacement, which it does once. stacks:
    the descriptor from which its stacks are read; -1: none.
    """

    __slots__ = ("deadline", "fd", "page", "pid", "ready_at", "slot", "stacks", "to_replace")

    def __init__(self, pid: int, fd: int, slot: int, page: int, ready_at: float, deadline: float) -> None:
        self.pid = pid
        self.fd = fd
        self.slot = slot
        self.page = page
        self.ready_at = ready_at
        self.deadline = deadline
        self.to_replace = False
        self.stacks = -1


class Handover(Record):
    """All that is passed on. slots: how many workers should run. workers_setting: how many the settings say.

    settings: those that the trial has approved, encoded by the new version (`starman.config.revision`). scoreboard:
    its descriptor; -1: none. admin: the listeners of the admin HTTP.
    control: the control socket; None: there is none. reopening: whether some process has yet
    to reopen its logs, so that the new master sends the order again. restarting: whether settings may have changed
    since the trial has read them, so that a restart follows.
    """

    __slots__ = (
        *("admin", "control", "handed_workers", "listeners", "reopening", "restarting", "scoreboard", "settings"),
        *("slots", "workers_setting"),
    )

    def __init__(
        self, settings: str, slots: int, workers_setting: int, listeners: list[HandedListener], handed_workers: list[HandedWorker]
    ) -> None:
        self.settings = settings
        self.slots = slots
        self.workers_setting = workers_setting
        self.listeners = listeners
        self.handed_workers = handed_workers
        self.scoreboard = -1
        self.admin: list[HandedListener] = []
        self.control: HandedControl | None = None
        self.reopening = False
        self.restarting = False

    def fds(self) -> list[int]:
        """The descriptors that are passed on."""
        board = [self.scoreboard] if self.scoreboard >= 0 else []
        stacks = [worker.stacks for worker in self.handed_workers if worker.stacks >= 0]
        control = [] if self.control is None else [self.control.fd]
        workers = [worker.fd for worker in self.handed_workers]
        return [*(listener.fd for listener in (*self.listeners, *self.admin)), *workers, *stacks, *board, *control]


def encode(handover: Handover) -> str:
    """The text of `handover`: one line per item, fields separated by spaces, texts in hexadecimal."""
    lines = [f"format {FORMAT}", f"settings {handover.settings}", f"slots {handover.slots} {handover.workers_setting}"]
    lines.append(f"scoreboard {handover.scoreboard}")
    if handover.control is not None:
        device, inode = handover.control.file or (0, 0)
        lines.append(f"control {handover.control.fd} {os.fsencode(handover.control.name).hex()} {device} {inode}")
    lines += [f"listener {_encode_listener(listener)}" for listener in handover.listeners]
    lines += [f"admin {_encode_listener(listener)}" for listener in handover.admin]
    for worker in handover.handed_workers:
        life = f"{worker.ready_at!r} {worker.deadline!r} {int(worker.to_replace)} {worker.stacks}"
        lines.append(f"worker {worker.pid} {worker.fd} {worker.slot} {worker.page} {life}")
    lines += ["reopening"] if handover.reopening else []
    lines += ["restarting"] if handover.restarting else []
    return "\n".join(lines)


def decode(text: str) -> Handover:
    """The handover of this text. Raises ValueError for text that `encode` of the same format cannot have written."""
    first, *lines = text.split("\n")
    if first != f"format {FORMAT}":
        raise ValueError(f"a handover in another format than {FORMAT}: {first!r}")
    handover = Handover("", 0, 0, [], [])
    for line in lines:
        kind, *fields = line.split(" ")
        if kind in ("listener", "admin"):
            (handover.listeners if kind == "listener" else handover.admin).append(_decode_listener(fields))
        elif kind == "settings":
            (handover.settings,) = fields
        elif kind == "slots":
            handover.slots, handover.workers_setting = (int(field) for field in fields)
        elif kind == "scoreboard":
            (handover.scoreboard,) = (int(field) for field in fields)
        elif kind == "control":
            fd, name, device, inode = fields
            handover.control = HandedControl(int(fd), _text(name), (int(device), int(inode)) if int(inode) else None)
        elif kind == "worker":
            pid, fd, slot, page, ready_at, deadline, to_replace, stacks = fields
            handed_worker = HandedWorker(int(pid), int(fd), int(slot), int(page), float(ready_at), float(deadline))
            handed_worker.to_replace, handed_worker.stacks = to_replace == "1", int(stacks)
            handover.handed_workers.append(handed_worker)
        else:
            _set_flag(handover, kind)
    if handover.slots < 1:
        raise ValueError("a handover without workers")
    return handover


def _encode_listener(listener: HandedListener) -> str:
    path, device, inode = listener.file or ("", 0, 0)
    address = os.fsencode(listener.address).hex()
    return f"{listener.fd} {address} {int(listener.secure)} {device} {inode} {os.fsencode(path).hex()}"


def _decode_listener(fields: list[str]) -> HandedListener:
    fd, address, secure, device, inode, path = fields
    file = (_text(path), int(device), int(inode)) if path else None
    return HandedListener(int(fd), _text(address), secure=secure == "1", file=file)


def _set_flag(handover: Handover, kind: str) -> None:
    if kind == "reopening":
        handover.reopening = True
    elif kind == "restarting":
        handover.restarting = True
    else:
        raise ValueError(f"unknown field of a handover: {kind!r}")


def _text(field: str) -> str:
    return os.fsdecode(bytes.fromhex(field))
