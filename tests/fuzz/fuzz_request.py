"""Fuzzes RequestParser: any bytes, in any cuts, are requests, a refusal, or the beginning of one of them.

python -m tests.fuzz.fuzz_request -max_total_time=60
"""

from __future__ import annotations

from tests.fuzz.running import run

if __name__ == "__main__":
    run("request")
