"""Which open tasks are delegated: their function has returned, and somebody outside ends them.

They are kept as bits, in blocks of 1,024 positions, so 10,000 of them take little room. A position
may stay in a block after its task has ended: only those that are open mean something.
"""

from __future__ import annotations

from collections.abc import Iterator

from infinitic.engines import positions
from infinitic.engines.state import DelegatedBlock, WorkflowHead

Delegations = tuple[DelegatedBlock, ...]

BLOCK = 1024
"""Positions of a block."""


def contains(delegated: Delegations, position: int) -> bool:
    """Whether the task at a position is delegated."""
    return any(block.number == position // BLOCK and _read(block) >> position % BLOCK & 1 for block in delegated)


def add(delegated: Delegations, position: int) -> Delegations:
    """Note that the task at a position is delegated."""
    number = position // BLOCK
    before = next((block for block in delegated if block.number == number), None)
    bits = (0 if before is None else _read(before)) | 1 << position % BLOCK
    others = (block for block in delegated if block.number != number)
    return tuple(sorted((*others, _make(number, bits)), key=lambda block: block.number))


def remove(delegated: Delegations, position: int) -> Delegations:
    """Note that the task at a position is delegated no more. Without it, nothing changes."""
    if not contains(delegated, position):
        return delegated
    number = position // BLOCK
    changed = (
        _make(number, _read(block) & ~(1 << position % BLOCK)) if block.number == number else block
        for block in delegated
    )
    return tuple(block for block in changed if block.bits)


def list_open(head: WorkflowHead) -> list[int]:
    """List the positions of the open tasks that are delegated, ascending."""
    return [each for each in _list(head.delegated) if positions.find_request(head.open, each) is not None]


def _list(delegated: Delegations) -> Iterator[int]:
    for block in delegated:
        bits = _read(block)
        yield from (BLOCK * block.number + offset for offset in range(bits.bit_length()) if bits >> offset & 1)


def _read(block: DelegatedBlock) -> int:
    return int.from_bytes(block.bits, "little")


def _make(number: int, bits: int) -> DelegatedBlock:
    return DelegatedBlock(number, bits.to_bytes(bits.bit_length() + 7 >> 3, "little"))
