"""Instants and durations: what code sees of them in datetimes."""

from __future__ import annotations

import math
from datetime import timedelta
from random import Random

import pytest

from infinitic.clock import add_seconds, to_datetime
from infinitic.definitions.workflows import ReplayCheck
from infinitic.messages.commands import StartTimer
from infinitic.replay.divergence import is_same_command


def test_S24_what_is_due_after_a_duration_is_never_shown_before_it_is_over() -> None:
    """Both datetimes are rounded, so that sums of floats alone are a microsecond short at times."""
    random, short = Random(7), 0
    for _ in range(5_000):
        now, seconds = random.uniform(1.7e9, 2.0e9), random.choice((0.1, 0.3, 2.7, 86_400.1, 3600.0))
        shown = to_datetime(now) + timedelta(seconds=seconds)
        short += to_datetime(now + seconds) < shown
        later = add_seconds(now, seconds)
        assert shown <= to_datetime(later) <= shown + timedelta(microseconds=1)
        assert now + seconds <= later < now + seconds + 1.5e-6
    assert short > 10, "sums of floats are right as well"


@pytest.mark.parametrize("seconds", [math.inf, 1e13, -1e13, 0.0])
def test_what_no_datetime_can_hold_is_added_all_the_same(seconds: float) -> None:
    assert add_seconds(1.7e9, seconds) == 1.7e9 + seconds


def test_S14_a_timer_of_an_earlier_release_may_be_due_a_microsecond_sooner() -> None:
    recorded = StartTimer(1, 1.7e9)
    assert is_same_command(recorded, StartTimer(1, 1.7e9 + 1e-6), ReplayCheck.STRICT)
    assert not is_same_command(recorded, StartTimer(1, 1.7e9 + 1e-3), ReplayCheck.STRICT)
    assert not is_same_command(recorded, StartTimer(2, 1.7e9), ReplayCheck.STRICT)
