"""Measures starman and other servers on this machine: `python -m bench [SCENARIO …]`. See docs/bench.md.

To extend it, add to one of three tables: `servers.py` (the servers), `scenarios.py` (the requests) or `targets.py`
(starman's aims). `runner.py` measures the servers alternately, `results.py` holds the figures, and `report.py` and
`plots.py` show them. `growth.py` measures how cost grows with one quantity. Compare figures within one run only, by
the ratio of each round: absolute numbers depend on the machine.
"""
