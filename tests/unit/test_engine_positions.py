"""Bit ranges of open positions behave as a set does."""

from __future__ import annotations

from itertools import count

import msgspec
from hypothesis import given, strategies as st

from infinitic.engines import positions
from infinitic.engines.positions import Blocks, open_block
from infinitic.engines.state import OpenBlock

ACTIVATIONS = st.lists(st.sets(st.integers(0, 40), min_size=1), max_size=4) | st.lists(
    st.sets(st.integers(0, 6), min_size=1, max_size=3), min_size=10, max_size=40
)
CLOSINGS = st.lists(st.integers(-2, 280), max_size=60)


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
    for sequence, offsets in zip(count(1, 23), activations, strict=False):
        opened = sorted(first + offset for offset in offsets)
        blocks = positions.append(blocks, sequence, opened)
        model |= dict.fromkeys(opened, sequence)
        first = opened[-1] + 1
    assert list(positions.list_requests(blocks)) == sorted(model.items())
    half = dict(list(model.items())[::2])
    again = blocks
    for position in half:
        left = positions.close(again, position)
        assert left is not None
        again = left
    again = positions.reopen(again, half)
    assert list(positions.list_requests(again)) == sorted(model.items())
    for position in closings:
        assert positions.find_request(blocks, position) == model.get(position)
        closed = positions.close(blocks, position)
        assert (closed is None) == (position not in model)
        model.pop(position, None)
        blocks = blocks if closed is None else closed
        assert positions.count(blocks) == len(model)
    found = {each: positions.find_request(blocks, each) for each in range(300)}
    assert {each: request for each, request in found.items() if request} == model
    for position in model:
        closed = positions.close(blocks, position)
        assert closed is not None
        blocks = closed
    assert blocks == (), "a block without open positions is gone"


def test_ten_thousand_parallel_tasks_take_little_space() -> None:
    block = open_block(1, list(range(10_000)))
    assert len(block.bits) == 1250


def test_ten_thousand_tasks_that_as_many_activations_asked_for_take_little_space() -> None:
    """A workflow that starts a task with each signal, say. Those that last long are far apart."""
    blocks: Blocks = ()
    for position in range(10_000):
        blocks = positions.append(blocks, 3 * position + 1, [position])
    assert len(msgspec.msgpack.encode(blocks)) < 15 * 1024
    assert positions.find_request(blocks, 7_777) == 3 * 7_777 + 1
    for position in range(10_000):
        if position % 50:
            left = positions.close(blocks, position)
            assert left is not None
            blocks = left
    assert positions.count(blocks) == 200
    assert len(msgspec.msgpack.encode(blocks)) < 200 * 18
