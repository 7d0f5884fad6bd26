"""Bit ranges of open positions behave as a set does."""

from __future__ import annotations

from hypothesis import given, strategies as st

from infinitic.engines import positions
from infinitic.engines.positions import Blocks, open_block
from infinitic.engines.state import OpenBlock

ACTIVATIONS = st.lists(st.sets(st.integers(0, 40), min_size=1), max_size=4)
CLOSINGS = st.lists(st.integers(-2, 200), max_size=30)


def test_one_position_is_one_bit() -> None:
    assert open_block(3, [7]) == OpenBlock(3, 7, b"\x01")


def test_holes_are_not_open() -> None:
    blocks = (open_block(1, [2, 4, 10]),)
    assert [each for each in range(-3, 20) if positions.find_request(blocks, each)] == [2, 4, 10]
    assert blocks[0].bits == b"\x05\x01"
    assert positions.count(blocks) == 3


@given(ACTIVATIONS, CLOSINGS)
def test_closing_is_that_of_a_set(activations: list[set[int]], closings: list[int]) -> None:
    """Open positions in any blocks and close them in any order, also some that were never open."""
    blocks: Blocks = ()
    model: dict[int, int] = {}
    first = 0
    for sequence, offsets in enumerate(activations, 1):
        opened = sorted(first + offset for offset in offsets)
        blocks = (*blocks, open_block(sequence, opened))
        model |= dict.fromkeys(opened, sequence)
        first = opened[-1] + 1
    for position in closings:
        assert positions.find_request(blocks, position) == model.get(position)
        closed = positions.close(blocks, position)
        assert (closed is None) == (position not in model)
        model.pop(position, None)
        blocks = blocks if closed is None else closed
        assert positions.count(blocks) == len(model)
    found = {each: positions.find_request(blocks, each) for each in range(200)}
    assert {each: request for each, request in found.items() if request} == model
    for position in model:
        closed = positions.close(blocks, position)
        assert closed is not None
        blocks = closed
    assert blocks == (), "a block without open positions is gone"


def test_ten_thousand_parallel_tasks_take_little_space() -> None:
    block = open_block(1, list(range(10_000)))
    assert len(block.bits) == 1250
