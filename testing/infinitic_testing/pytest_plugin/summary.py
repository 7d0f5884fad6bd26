"""What pytest says at its end of all tests that ran under seeds."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

PROPERTY = "infinitic"
"""The name of the property of a report that says how many seeds there were, and which faults."""


def note_seeds(item: pytest.Item, seeds: int, fired: Counter[str]) -> None:
    """Note under how many seeds a test ran. The note is a part of its report.

    Args:
        item: the test.
        seeds: how many.
        fired: how often each fault happened.
    """
    item.user_properties.append((PROPERTY, {"seeds": seeds, "fired": dict(fired)}))


def describe_seeds(reporter: Any) -> str:
    """Sum up the notes of all tests; empty if there are none.

    Args:
        reporter: the terminal reporter of pytest.
    """
    tests = seeds = 0
    fired = Counter[str]()
    for reports in reporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for name, value in report.user_properties:
                if name == PROPERTY:
                    tests += 1
                    seeds += value["seeds"]
                    fired.update(value["fired"])
    if not tests:
        return ""
    faults = ", ".join(f"{name} {count:,}" for name, count in sorted(fired.items())) or "none"
    return f"infinitic: {tests} test(s) ran under {seeds:,} seed(s). Faults that happened: {faults}"
