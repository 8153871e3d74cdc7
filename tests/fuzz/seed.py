"""Makes the corpus: the smallest inputs that together reach all steps and all reasons for a refusal.

Inputs come from the tables of cases, the present corpus, and build/fuzz. Does not need atheris.

python -m tests.fuzz.seed
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from starman.errors import ProtocolError
from tests.fuzz.oracle import CORPUS, FOUND, ORACLES
from tests.unit.proto.cases import BROKEN, REFUSED_EARLY, UNFINISHED, VALID

_LONGEST_SEED = 400
_END_OF_HEAD = b"\r\n\r\n"

Steps = set[tuple[object, ...]]


def messages() -> Iterator[bytes]:
    """All messages of the tables."""
    yield from (case.data for case in VALID.values())
    yield from (data for data, _ in BROKEN.values())
    yield from (broken + rest for broken, rest in REFUSED_EARLY.values())
    yield from UNFINISHED.values()


def bodies() -> Iterator[bytes]:
    """Every chunked body of the tables."""
    for data in messages():
        head, _, body = data.partition(_END_OF_HEAD)
        if b"chunked" in head.lower() and body:
            yield body


def steps(name: str, data: bytes) -> Steps:
    """From which line to which the code under test goes when an oracle judges `data`, and the words it refuses
    with."""
    taken: Steps = set()
    last: dict[FrameType, int] = {}

    def trace(frame: FrameType, event: str, argument: Any) -> Any:
        if "/starman/" not in frame.f_code.co_filename:
            return None
        taken.add((frame.f_code.co_name, last.get(frame, 0), frame.f_lineno))
        last[frame] = frame.f_lineno
        if event == "exception" and isinstance(argument[1], ProtocolError):
            taken.add((argument[1].status, str(argument[1])))
        return trace

    sys.settrace(trace)
    try:
        ORACLES[name](data)
    finally:
        sys.settrace(None)
    return taken


def smallest(name: str, inputs: Iterable[bytes]) -> list[bytes]:
    """Those of `inputs` that are needed, short ones first."""
    kept = []
    known: Steps = set()
    for data in sorted(set(inputs), key=lambda data: (len(data), data)):
        new = steps(name, data) - known
        if new:
            kept.append(data)
            known |= new
    return kept


def stored(directory: Path) -> Iterator[bytes]:
    """The inputs in a directory, if there is one."""
    yield from (path.read_bytes() for path in directory.glob("*"))


def main() -> None:
    for name, seeds in {"request": messages(), "chunked": bodies()}.items():
        directory = CORPUS / name
        inputs = [*seeds, *stored(directory), *stored(FOUND / name)]
        kept = smallest(name, [data for data in inputs if len(data) <= _LONGEST_SEED])
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.glob("*"):
            path.unlink()
        for data in kept:
            # Named by its content, as libFuzzer names its own.
            (directory / hashlib.sha1(data, usedforsecurity=False).hexdigest()).write_bytes(data)
        print(f"{name}: {len(kept)} of {len(inputs)} inputs")


if __name__ == "__main__":
    main()
