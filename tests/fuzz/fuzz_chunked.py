"""Fuzzes ChunkedDecoder: any bytes, split anywhere, are a body with bytes behind it, a refusal, or the beginning of
either.

python -m tests.fuzz.fuzz_chunked -max_total_time=60
"""

from __future__ import annotations

from tests.fuzz.running import run

if __name__ == "__main__":
    run("chunked")
