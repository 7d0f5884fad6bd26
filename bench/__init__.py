"""Benchmarks: what the product costs, beside a hand-written floor in the same run.

See `python -m bench --help`.
"""
