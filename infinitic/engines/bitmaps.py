"""Sets of positions as bits: bit n is set while position `first` + n is in the set.

The lowest bit of a byte comes first. The first and the last byte are never zero, so a set that
becomes smaller takes less room, and an empty one has no bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

ALONE = b"\x01"
"""The bits of a set of one position."""


def make(positions: Sequence[int]) -> tuple[int, bytes]:
    """Make the set of these positions.

    Args:
        positions: one or more, ascending.

    Returns:
        The first position, and the bits.
    """
    first = positions[0]
    if len(positions) == 1:
        return first, ALONE
    bits = bytearray((positions[-1] - first) // 8 + 1)
    for position in positions:
        offset = position - first
        bits[offset >> 3] |= 1 << (offset & 7)
    return first, bytes(bits)


def contains(first: int, bits: bytes, position: int) -> bool:
    """Whether a position is in the set."""
    offset = position - first
    return offset >= 0 and offset >> 3 < len(bits) and bits[offset >> 3] >> (offset & 7) & 1 == 1


def remove(first: int, bits: bytes, position: int) -> tuple[int, bytes] | None:
    """Remove a position.

    Returns:
        The first position, which may be one that is not in the set, and the bits that are left;
        None if the position was not in the set.
    """
    offset = position - first
    byte, mask = offset >> 3, 1 << (offset & 7)
    if offset < 0 or byte >= len(bits) or not bits[byte] & mask:
        return None
    left = bits[byte] ^ mask
    if left or 0 < byte < len(bits) - 1:
        changed = bytearray(bits)
        changed[byte] = left
        return first, bytes(changed)
    if byte:
        return first, bits[:byte].rstrip(b"\0")
    rest = bits[1:].lstrip(b"\0")
    return first + 8 * (len(bits) - len(rest)), rest


def list_positions(first: int, bits: bytes) -> Iterator[int]:
    """List the positions of the set, ascending."""
    for index, byte in enumerate(bits):
        for bit in range(8):
            if byte >> bit & 1:
                yield first + 8 * index + bit


def count(bits: bytes) -> int:
    """Count the positions of the set."""
    return int.from_bytes(bits, "little").bit_count()
