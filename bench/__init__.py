"""Measures starman beside other servers, on this machine: `python -m bench [SCENARIO …]`.

`servers.py` and `scenarios.py` are the tables to add to. Figures of one machine are compared within one run only, by
the ratio of each round; absolute numbers say little elsewhere.
"""
