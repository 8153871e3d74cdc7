"""What the parser returns for bytes that depend on a number only, to compare two builds of it.

python -m tests.functional.support.verdicts SEED COUNT
"""

from __future__ import annotations

import random
import sys

from tests.fuzz.oracle import TIGHT, USUAL
from tests.unit.proto.cases import BROKEN, UNFINISHED, VALID
from tests.unit.proto.feeding import cut_at, feed

_MESSAGES = [*(case.data for case in VALID.values()), *(data for data, _ in BROKEN.values()), *UNFINISHED.values()]
_MESSAGES = [data for data in _MESSAGES if len(data) < 400]
_PIECES = [
    b"\r\n",
    b"\n",
    b"\r",
    b" ",
    b"\t",
    b":",
    b"0",
    b";a=b",
    b"\0",
    b"\xff",
    b"Content-Length: 1\r\n",
    b"chunked",
    b"HTTP/1.1",
]


def stream(choice: random.Random) -> bytes:
    """One or more messages in a row, with some bytes removed, inserted or doubled."""
    data = b"".join(choice.choices(_MESSAGES, k=choice.randint(1, 3)))
    for _ in range(choice.choice((0, 1, 1, 2, 5))):
        begin, length = choice.randrange(len(data) + 1), choice.choice((0, 0, 1, 1, 8))
        put = choice.choice([*_PIECES, b"", data[begin : begin + 8], bytes([choice.randrange(256)])])
        data = data[:begin] + put + data[begin + length :]
    return data


def main(seed: str, count: str) -> None:
    """Print a line for each stream and limit."""
    choice = random.Random(int(seed))
    for _ in range(int(count)):
        data = stream(choice)
        cuts = [choice.randrange(len(data) + 1) for _ in range(3)]
        for limits in (USUAL, TIGHT):
            print(repr(data), feed([data], limits), feed(cut_at(data, cuts), limits))


if __name__ == "__main__":
    main(*sys.argv[1:])
