"""Which tasks of an instance are open: bit ranges, one block for each activation that still has some."""

from __future__ import annotations

from infinitic.engines.state import OpenBlock

Blocks = tuple[OpenBlock, ...]

_ALONE = b"\x01"


def open_block(sequence: int, positions: list[int]) -> OpenBlock:
    """A block with these ascending positions open, requested in the segment of this sequence."""
    first = positions[0]
    if len(positions) == 1:
        return OpenBlock(sequence, first, _ALONE)
    bits = bytearray((positions[-1] - first) // 8 + 1)
    for position in positions:
        offset = position - first
        bits[offset >> 3] |= 1 << (offset & 7)
    return OpenBlock(sequence, first, bytes(bits))


def request_of(blocks: Blocks, position: int) -> int | None:
    """The sequence of the segment that holds the request of an open position, None if it is not open."""
    for block in blocks:
        offset = position - block.first
        inside = offset >= 0 and offset >> 3 < len(block.bits)
        if inside and block.bits[offset >> 3] >> (offset & 7) & 1:
            return block.sequence
    return None


def close(blocks: Blocks, position: int) -> Blocks | None:
    """The blocks without this position, None if it was not open."""
    for index, block in enumerate(blocks):
        offset = position - block.first
        if block.bits == _ALONE:  # as always if the code awaits one task after the other
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


def count(blocks: Blocks) -> int:
    """How many positions are open."""
    return sum(int.from_bytes(block.bits, "little").bit_count() for block in blocks)
