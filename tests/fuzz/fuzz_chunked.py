"""Fuzzes ChunkedDecoder: any bytes, in any cuts, are a body and what is behind it, a refusal, or the beginning of one.

python -m tests.fuzz.fuzz_chunked -max_total_time=60
"""

from __future__ import annotations

from tests.fuzz.running import run

if __name__ == "__main__":
    run("chunked")
