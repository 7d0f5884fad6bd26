"""Timers in blocks behave as a set of timers does, and a wide fan-out takes little space."""

from __future__ import annotations

import msgspec
from hypothesis import given, strategies as st

from infinitic.engines import timers
from infinitic.engines.bitmaps import ALONE
from infinitic.engines.state import TimerBlock, TimerKind
from infinitic.engines.timers import LARGEST_GAP, Blocks, Timer

ACTIVATIONS = st.lists(
    st.lists(
        st.tuples(st.integers(0, 2 * LARGEST_GAP), st.sampled_from([1.0, 2.0, 5.0]), st.sampled_from(TimerKind)),
        min_size=1,
        max_size=8,
        unique_by=lambda each: each[0],
    ),
    max_size=4,
)
REMOVALS = st.lists(st.integers(-2, 9 * LARGEST_GAP), max_size=20)


def make(activation: list[tuple[int, float, TimerKind]], first: int) -> list[Timer]:
    return [Timer(due, first + offset, kind) for offset, due, kind in sorted(activation)]


@given(ACTIVATIONS, REMOVALS)
def test_timers_are_those_of_a_set(activations: list[list[tuple[int, float, TimerKind]]], removals: list[int]) -> None:
    blocks: Blocks = ()
    model: dict[int, Timer] = {}
    for activation in activations:
        added = make(activation, 1 + max(model, default=-1))
        blocks = timers.add(blocks, added)
        model |= {timer.position: timer for timer in added}
    for position in [*removals, *list(model)[::2]]:
        after = timers.remove(blocks, position)
        assert (after is blocks) == (position not in model)
        model.pop(position, None)
        blocks = after
    assert sorted(timers.list_timers(blocks)) == sorted(model.values())
    assert all(block.bits for block in blocks), "a block without timers is gone"
    assert [block.first for block in blocks] == sorted(block.first for block in blocks)
    assert timers.find_next_due(blocks) == min((timer.due for timer in model.values()), default=None)
    for kind in TimerKind:
        assert timers.count(blocks, kind) == sum(timer.kind is kind for timer in model.values())
    for now in (0.0, 1.0, 3.0, 9.0):
        left, due = timers.take_due(blocks, now)
        assert due == sorted(timer for timer in model.values() if timer.due <= now)
        assert sorted(timers.list_timers(left)) == sorted(timer for timer in model.values() if timer.due > now)
        assert (left is blocks) == (not due)


def test_ten_thousand_timeouts_of_one_fan_out_take_little_space() -> None:
    """S19: what they take in the head is written with each step."""
    wide = timers.add((), [Timer(9.0, position, TimerKind.TIMEOUT) for position in range(10_000)])
    assert len(msgspec.msgpack.encode(wide)) < 2000


def test_timers_far_apart_are_two_blocks() -> None:
    """Or the bits between them would take more than what they save."""
    near = timers.add((), [Timer(9.0, 0), Timer(9.0, LARGEST_GAP)])
    far = timers.add((), [Timer(9.0, 0), Timer(9.0, LARGEST_GAP + 1)])
    assert len(near) == 1
    assert far == (TimerBlock(9.0, 0, ALONE), TimerBlock(9.0, LARGEST_GAP + 1, ALONE))
