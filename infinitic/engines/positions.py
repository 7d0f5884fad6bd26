"""Which tasks of an instance are open.

They are kept as bits, in one block for each activation that still has open tasks.
"""

from __future__ import annotations

from collections.abc import Iterator

from infinitic.engines.state import OpenBlock

Blocks = tuple[OpenBlock, ...]

_ALONE = b"\x01"


def open_block(sequence: int, positions: list[int]) -> OpenBlock:
    """Make a block in which these positions are open.

    Args:
        sequence: that of the segment with the requests of these tasks.
        positions: one or more, ascending.
    """
    first = positions[0]
    if len(positions) == 1:
        return OpenBlock(sequence, first, _ALONE)
    bits = bytearray((positions[-1] - first) // 8 + 1)
    for position in positions:
        offset = position - first
        bits[offset >> 3] |= 1 << (offset & 7)
    return OpenBlock(sequence, first, bytes(bits))


def find_request(blocks: Blocks, position: int) -> int | None:
    """Find the sequence of the segment with the request of a position; None if it is not open."""
    for block in blocks:
        offset = position - block.first
        inside = offset >= 0 and offset >> 3 < len(block.bits)
        if inside and block.bits[offset >> 3] >> (offset & 7) & 1:
            return block.sequence
    return None


def close(blocks: Blocks, position: int) -> Blocks | None:
    """Close a position. Returns the blocks without it, or None if it was not open."""
    for index, block in enumerate(blocks):
        offset = position - block.first
        # This is always so if the code awaits one task after the other.
        if block.bits == _ALONE:
            if offset == 0:
                if len(blocks) == 1:
                    return ()
                return blocks[:index] + blocks[index + 1 :]
            continue
        byte, mask = offset >> 3, 1 << (offset & 7)
        if offset < 0 or byte >= len(block.bits) or not block.bits[byte] & mask:
            continue
        bits = bytearray(block.bits)
        bits[byte] &= ~mask
        if any(bits):
            return (
                *blocks[:index],
                OpenBlock(block.sequence, block.first, bytes(bits)),
                *blocks[index + 1 :],
            )
        return blocks[:index] + blocks[index + 1 :]
    return None


def list_positions(block: OpenBlock) -> Iterator[int]:
    """List the open positions of a block, in ascending order."""
    for index, byte in enumerate(block.bits):
        for bit in range(8):
            if byte >> bit & 1:
                yield block.first + 8 * index + bit


def count(blocks: Blocks) -> int:
    """Count the open positions."""
    return sum(int.from_bytes(block.bits, "little").bit_count() for block in blocks)
