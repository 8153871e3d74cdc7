"""Measures starman beside other servers, on this machine: `python -m bench [SCENARIO …]`. docs/bench.md tells how to
use it.

Add to one of three tables: `servers.py` (the servers to measure), `scenarios.py` (the requests that they get) and
`targets.py` (what starman aims at). `runner.py` measures in turns, and `results.py` holds what came of it; `report.py`
and `plots.py` show that. `growth.py` asks how cost grows with one quantity. Figures of one machine are compared within
one run only, by the ratio of each round; absolute numbers say little elsewhere.
"""
