"""A seed that does not repeat itself: the report says at which virtual time two runs part."""

from __future__ import annotations

import pytest

from infinitic_testing.campaign.campaign import explain_difference
from infinitic_testing.campaign.seed_report import SeedReport

Marks = tuple[tuple[float, str], ...]


def report(digest: str, marks: Marks) -> SeedReport:
    return SeedReport("shop:test_trip", 7, trace_digest=digest, outcome_digest="same", trace_marks=marks)


@pytest.mark.parametrize(
    ("one", "other", "words"),
    [
        (((1.0, "a"), (2.5, "b")), ((1.0, "a"), (2.0, "c")), "from a time between 1 s and 2.5 s"),
        (((1.0, "a"),), ((1.0, "b"),), "from a time between 0 s and 1 s"),
        (((1.0, "a"), (2.5, "b")), ((1.0, "a"),), "after 1 s"),
        ((), (), "after 0 s"),
    ],
)
def test_a_difference_of_steps_says_when_it_begins(one: Marks, other: Marks, words: str) -> None:
    failure = explain_difference(report("one", one), report("other", other), False)
    assert f"its steps differ. The steps differ {words}. Something in it" in failure.message


def test_runs_with_the_same_steps_have_no_such_time() -> None:
    one = SeedReport("shop:test_trip", 7, trace_digest="same", outcome_digest="one")
    other = SeedReport("shop:test_trip", 7, trace_digest="same", outcome_digest="other")
    assert "The steps differ" not in explain_difference(one, other, False).message
