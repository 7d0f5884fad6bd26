"""The open timers of an instance: those of its code, and the total timeouts of its tasks.

Timers that one activation has set for one time are one block, as the total timeouts of a wide
fan-out are. So 10,000 of them take little room. The blocks are in the order of their first
positions.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import NamedTuple

from infinitic.engines import bitmaps
from infinitic.engines.state import TimerBlock, TimerKind

Blocks = tuple[TimerBlock, ...]

LARGEST_GAP = 128
"""How far apart positions of one block may be. A block of its own takes less than the bits."""
LARGEST_SPAN = 512
"""How many positions a block spans. So the block of a position is found near it."""

_get_due = attrgetter("due")
_get_first = attrgetter("first")


class Timer(NamedTuple):
    """An open timer.

    Attributes:
        due: when it fires, in seconds since the Unix epoch.
        position: the position of the timer, or of the task whose total timeout it is.
        kind: what it is for.
        method: see `TimerBlock`.
    """

    due: float
    position: int
    kind: TimerKind = TimerKind.TIMER
    method: str | None = None


def add(blocks: Blocks, timers: Sequence[Timer]) -> Blocks:
    """Add the timers of an activation.

    Args:
        blocks: the open timers.
        timers: one or more new ones, in the order of their positions, which come after those of
            all timers before.
    """
    if len(timers) == 1:
        [timer] = timers
        return (*blocks, TimerBlock(timer.due, timer.position, bitmaps.ALONE, timer.kind, timer.method))
    groups: dict[tuple[float, TimerKind, str | None], list[int]] = {}
    added: list[TimerBlock] = []
    for due, position, kind, method in timers:
        group = groups.setdefault((due, kind, method), [])
        if group and (position - group[-1] > LARGEST_GAP or position - group[0] >= LARGEST_SPAN):
            added.append(TimerBlock(due, *bitmaps.make(group), kind, method))
            group.clear()
        group.append(position)
    added += [TimerBlock(due, *bitmaps.make(group), kind, method) for (due, kind, method), group in groups.items()]
    added.sort(key=_get_first)
    return (*blocks, *added)


def add_again(blocks: Blocks, timers: Sequence[Timer]) -> Blocks:
    """Add timers of positions that may come before those of other timers.

    Args:
        blocks: the open timers.
        timers: in any order.
    """
    added = [TimerBlock(timer.due, timer.position, bitmaps.ALONE, timer.kind, timer.method) for timer in timers]
    return tuple(sorted((*blocks, *added), key=_get_first))


def remove(blocks: Blocks, position: int) -> Blocks:
    """Remove the timer of a position. Returns the same blocks if it has none."""
    index = len(blocks) - 1
    if index > 0:
        index = bisect_right(blocks, position, key=_get_first) - 1
    # Blocks of one activation may overlap.
    while index >= 0 and position - (block := blocks[index]).first < LARGEST_SPAN:
        left = bitmaps.remove(block.first, block.bits, position)
        if left is not None:
            first, bits = left
            if not bits:
                return blocks[:index] + blocks[index + 1 :]
            smaller = TimerBlock(block.due, first, bits, block.kind, block.method)
            changed = (*blocks[:index], smaller, *blocks[index + 1 :])
            return changed if first == block.first else tuple(sorted(changed, key=_get_first))
        index -= 1
    return blocks


def take_due(blocks: Blocks, now: float) -> tuple[Blocks, list[Timer]]:
    """Take out the timers that are due.

    Args:
        blocks: the open timers.
        now: seconds since the Unix epoch.

    Returns:
        The blocks that are left, and the timers that are due, in the order of time and position.
    """
    left = tuple(block for block in blocks if block.due > now)
    if len(left) == len(blocks):
        return blocks, []
    return left, sorted(list_timers(block for block in blocks if block.due <= now))


def take_completable(blocks: Blocks, method: str | None) -> tuple[Blocks, list[Timer]]:
    """Take out the timers that may be completed before their time.

    Args:
        blocks: the open timers.
        method: those of this method, as `TimerBlock` names it; None: those of all methods.

    Returns:
        The blocks that are left, and the timers, in the order of time and position.
    """
    taken, left = list[TimerBlock](), list[TimerBlock]()
    for block in blocks:
        wanted = block.method is not None and method in (None, block.method)
        (taken if wanted else left).append(block)
    return tuple(left), sorted(list_timers(taken))


def find_next_due(blocks: Blocks) -> float | None:
    """Find when the first timer is due, in seconds since the Unix epoch; None: there are none."""
    return min(map(_get_due, blocks)) if blocks else None


def list_timers(blocks: Sequence[TimerBlock] | Iterator[TimerBlock]) -> Iterator[Timer]:
    """List the timers of some blocks."""
    for block in blocks:
        for position in bitmaps.list_positions(block.first, block.bits):
            yield Timer(block.due, position, block.kind, block.method)


def count(blocks: Blocks, kind: TimerKind) -> int:
    """Count the timers of a kind."""
    return sum(bitmaps.count(block.bits) for block in blocks if block.kind is kind)
