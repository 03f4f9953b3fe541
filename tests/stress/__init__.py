"""Stress suites: the served lab under attack and under load, on the loopback interface.

`python -m tests.stress NAME [--short] [--json]` runs one suite; `--help` lists them.

A module of attacks has `ATTACKS`, a tuple of functions that take a `target.Target`. An attack that succeeds raises
`AssertionError` with what it found. Every module in this folder that has `ATTACKS` belongs to the suite `attacks`, and
pytest runs each of its attacks as a test (`test_stress.py`).
"""
