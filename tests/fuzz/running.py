"""Runs an oracle under atheris, with libFuzzer's own command line. Needs the extra `fuzz`.

New inputs go to build/fuzz/NAME (FUZZ_FOUND is another folder), and a crash to NAME-crash-… beside it. The
committed corpus, corpus/NAME, is only read: `seed` adds to it.
"""

from __future__ import annotations

import sys

import atheris

# Seconds for one input: feeding is linear, so the longest takes a few milliseconds.
_HANG_SECONDS = 5


def run(name: str) -> None:
    """Fuzz with the oracle of this name; arguments of the command line are libFuzzer's. Does not return."""
    with atheris.instrument_imports(include=["starman"]):
        from tests.fuzz import oracle
    found = oracle.FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    options = [
        f"-max_len={oracle.LONGEST_INPUT}",
        f"-timeout={_HANG_SECONDS}",
        f"-artifact_prefix={found}-",
        "-print_final_stats=0",
    ]
    directories = [str(found), str(oracle.CORPUS / name)]
    atheris.Setup([sys.argv[0], *options, *sys.argv[1:], *directories], oracle.ORACLES[name])
    atheris.Fuzz()
