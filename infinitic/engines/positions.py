"""Which tasks of an instance are open.

They are kept as bits, in one block for each activation that still has open tasks. The blocks are in
the order of their positions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from operator import attrgetter

from infinitic.engines import bitmaps
from infinitic.engines.bitmaps import ALONE
from infinitic.engines.state import OpenBlock

Blocks = tuple[OpenBlock, ...]

_get_first = attrgetter("first")


def open_block(sequence: int, positions: list[int]) -> OpenBlock:
    """Make a block in which these positions are open.

    Args:
        sequence: that of the segment with the requests of these tasks.
        positions: one or more, ascending.
    """
    return OpenBlock(sequence, *bitmaps.make(positions))


def reopen(blocks: Blocks, requests: Mapping[int, int]) -> Blocks:
    """Open positions once more.

    Args:
        blocks: the open positions.
        requests: the sequence of the segment with its request, for each position to open.
    """
    by_segment: dict[int, list[int]] = {}
    for block in blocks:
        by_segment.setdefault(block.sequence, []).extend(list_positions(block))
    for position, sequence in requests.items():
        by_segment.setdefault(sequence, []).append(position)
    # The positions of a segment are one block: they come after those of the segment before.
    return tuple(open_block(sequence, sorted(found)) for sequence, found in sorted(by_segment.items()))


def find_request(blocks: Blocks, position: int) -> int | None:
    """Find the sequence of the segment with the request of a position; None if it is not open."""
    index = _find_block(blocks, position)
    if index < 0:
        return None
    block = blocks[index]
    return block.sequence if bitmaps.contains(block.first, block.bits, position) else None


def close(blocks: Blocks, position: int) -> Blocks | None:
    """Close a position. Returns the blocks without it, or None if it was not open."""
    index = _find_block(blocks, position)
    if index < 0:
        return None
    block = blocks[index]
    # This is the usual case if the code awaits one task after the other.
    if block.bits == ALONE:
        return blocks[:index] + blocks[index + 1 :] if block.first == position else None
    left = bitmaps.remove(block.first, block.bits, position)
    if left is None:
        return None
    first, bits = left
    if not bits:
        return blocks[:index] + blocks[index + 1 :]
    return (*blocks[:index], OpenBlock(block.sequence, first, bits), *blocks[index + 1 :])


def _find_block(blocks: Blocks, position: int) -> int:
    """Find the index of the only block that may have this position; -1: no block has it."""
    if len(blocks) < 2:
        return len(blocks) - 1
    return bisect_right(blocks, position, key=_get_first) - 1


def list_positions(block: OpenBlock) -> Iterator[int]:
    """List the open positions of a block, in ascending order."""
    return bitmaps.list_positions(block.first, block.bits)


def count(blocks: Blocks) -> int:
    """Count the open positions."""
    return sum(bitmaps.count(block.bits) for block in blocks)
