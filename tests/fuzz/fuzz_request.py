"""Fuzzes RequestParser: any bytes, split anywhere, are requests, a refusal, or the beginning of either.

python -m tests.fuzz.fuzz_request -max_total_time=60
"""

from __future__ import annotations

from tests.fuzz.running import run

if __name__ == "__main__":
    run("request")
