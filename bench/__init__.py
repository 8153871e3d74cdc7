"""Measures starman beside other servers, on this machine: `python -m bench [SCENARIO …]`. docs/bench.md tells how to use it.

Three tables are what one adds to: `servers.py` (who is measured), `scenarios.py` (what is asked of them) and `targets.py` (what
starman aims at). `runner.py` measures in turns, and `results.py` holds what came of it; `report.py` and `plots.py` show that.
`growth.py` asks how cost grows with one quantity. Figures of one machine are compared within one run only, by the ratio of
each round; absolute numbers say little elsewhere.
"""
