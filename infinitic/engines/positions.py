"""Which tasks of an instance are open.

They are kept as bits, in one block for each activation that still has open tasks. The blocks are in
the order of their positions. If there are many, small neighbours become one block.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from operator import attrgetter

from infinitic.engines import bitmaps
from infinitic.engines.bitmaps import ALONE
from infinitic.engines.state import OpenBlock

Blocks = tuple[OpenBlock, ...]

FEW = 8
"""Up to so many blocks, each activation has one of its own."""
LARGEST_MERGED = 64
"""How many positions a block may have that several activations have asked for."""

_get_first = attrgetter("first")


def open_block(sequence: int, positions: list[int]) -> OpenBlock:
    """Make a block in which these positions are open.

    Args:
        sequence: that of the segment with the requests of these tasks.
        positions: one or more, ascending.
    """
    if len(positions) == 1:
        return OpenBlock(sequence, positions[0], ALONE)
    return OpenBlock(sequence, *bitmaps.make(positions))


def append(blocks: Blocks, sequence: int, positions: list[int]) -> Blocks:
    """Open the positions that an activation has asked for.

    Args:
        blocks: the open positions.
        sequence: that of the segment with the new requests.
        positions: one or more, ascending, which come after those of all requests before.
    """
    block = open_block(sequence, positions)
    if not blocks:
        return (block,)
    merged = _merge(blocks[-1], block) if len(blocks) >= FEW else None
    return (*blocks, block) if merged is None else (*blocks[:-1], merged)


def _merge(block: OpenBlock, after: OpenBlock) -> OpenBlock | None:
    """Make one block of two neighbours; None if it would be too large."""
    distance, later = after.first - block.first, after.sequence - block.sequence
    if distance + 8 * len(after.bits) > LARGEST_MERGED or later > 255:
        return None
    number = int.from_bytes(block.bits, "little") | int.from_bytes(after.bits, "little") << distance
    bits = number.to_bytes(number.bit_length() + 7 >> 3, "little")
    known = (block.later or b"")[:distance].ljust(distance, b"\0")
    return OpenBlock(block.sequence, block.first, bits, known + bytes((later,)) * (8 * len(bits) - distance))


def reopen(blocks: Blocks, requests: Mapping[int, int]) -> Blocks:
    """Open positions once more.

    Args:
        blocks: the open positions.
        requests: the sequence of the segment with its request, for each position to open.
    """
    by_segment: dict[int, list[int]] = {}
    for position, sequence in (*list_requests(blocks), *requests.items()):
        by_segment.setdefault(sequence, []).append(position)
    # The positions of a segment are one block: they come after those of the segment before.
    reopened: Blocks = ()
    for sequence, found in sorted(by_segment.items()):
        reopened = append(reopened, sequence, sorted(found))
    return reopened


def find_request(blocks: Blocks, position: int) -> int | None:
    """Find the sequence of the segment with the request of a position; None if it is not open."""
    index = _find_block(blocks, position)
    if index < 0:
        return None
    block = blocks[index]
    if not bitmaps.contains(block.first, block.bits, position):
        return None
    return block.sequence + block.later[position - block.first] if block.later else block.sequence


def close(blocks: Blocks, position: int) -> Blocks | None:
    """Close a position. Returns the blocks without it, or None if it was not open."""
    index = 0
    if len(blocks) != 1:
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
    if block.later is None:
        smaller = OpenBlock(block.sequence, first, bits)
    else:
        smaller = _shrink(block, block.later[first - block.first :], first, bits)
    if len(blocks) == 1:
        return (smaller,)
    return (*blocks[:index], smaller, *blocks[index + 1 :])


def _shrink(block: OpenBlock, later: bytes, first: int, bits: bytes) -> OpenBlock:
    """Make what is left of a block that several activations have asked for.

    Args:
        block: the block.
        later: what it says of the positions from `first` on.
        first: the position of bit 0 that is left.
        bits: the bits that are left.
    """
    number = int.from_bytes(bits, "little")
    if number & (number - 1):
        return OpenBlock(block.sequence, first, bits, later[: 8 * len(bits)])
    offset = number.bit_length() - 1
    return OpenBlock(block.sequence + later[offset], first + offset, ALONE)


def _find_block(blocks: Blocks, position: int) -> int:
    """Find the index of the only block that may have this position; -1: no block has it."""
    if len(blocks) < 2:
        return len(blocks) - 1
    return bisect_right(blocks, position, key=_get_first) - 1


def list_positions(block: OpenBlock) -> Iterator[int]:
    """List the open positions of a block, in ascending order."""
    return bitmaps.list_positions(block.first, block.bits)


def list_requests(blocks: Blocks) -> Iterator[tuple[int, int]]:
    """List the open positions, ascending, each with the segment that holds its request."""
    for block in blocks:
        for position in list_positions(block):
            yield position, block.sequence + (block.later[position - block.first] if block.later else 0)


def count(blocks: Blocks) -> int:
    """Count the open positions."""
    return sum(bitmaps.count(block.bits) for block in blocks)
