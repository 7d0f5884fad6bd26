"""Maps instants to the columns of a terminal. Long times in which nothing ran take one column."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

SHORTEST_GAP = 0.25
"""A time without work takes one column if it is longer than this part of all times with work."""


class Span(NamedTuple):
    """A time, in seconds since the Unix epoch. Its end is not before its begin."""

    begin: float
    end: float


class TimeAxis:
    """Columns for instants. A gap, in which nothing ran, takes one column, however long it is.

    Days between two retries would squash all that ran to slivers: so the axis shows work, and
    shortens what lies between.

    Args:
        work: the times that must be seen. An instant is a span without length.
        width: how many columns there are, 10 or more.

    Attributes:
        gaps: the columns of gaps, each with its length in seconds.
    """

    def __init__(self, work: Iterable[Span], width: int) -> None:
        self.gaps: dict[int, float] = {}
        self._parts = _split(_merge(work), width // 4)
        self._begins = [part.begin for part in self._parts]
        self._columns = list[tuple[int, int]]()
        total = sum(part.end - part.begin for part in self._parts)
        # Each part has one column at least, and each gap has one.
        free = width - max(2 * len(self._parts) - 1, 0)
        column, shown = 0, 0.0
        for index, part in enumerate(self._parts):
            if index:
                self.gaps[column] = part.begin - self._parts[index - 1].end
                column += 1
            # Differences of rounded sums: so that all of `free` is given away.
            before = round(free * shown / total) if total else 0
            shown += part.end - part.begin
            count = 1 + (round(free * shown / total) if total else 0) - before
            self._columns.append((column, count))
            column += count

    def find_column(self, at: float) -> int:
        """Find the column of an instant. One outside of all work has the nearest column before."""
        if not self._parts:
            return 0
        index = max(bisect_right(self._begins, at) - 1, 0)
        part, (first, count) = self._parts[index], self._columns[index]
        length = part.end - part.begin
        if not length:
            return first
        return first + min(int(count * max(at - part.begin, 0.0) / length), count - 1)


def _merge(work: Iterable[Span]) -> list[Span]:
    """Join spans that overlap, in the order of their begin."""
    merged = list[Span]()
    for span in sorted(work):
        if merged and span.begin <= merged[-1].end:
            merged[-1] = Span(merged[-1].begin, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged


def _split(merged: Sequence[Span], most: int) -> list[Span]:
    """Join spans with the times between them, but for the longest of these times.

    Args:
        merged: spans that do not overlap, in order.
        most: how many times may be left out.

    Returns:
        The parts between those that are left out.
    """
    gaps = [later.begin - earlier.end for earlier, later in pairwise(merged)]
    shortest = SHORTEST_GAP * sum(span.end - span.begin for span in merged)
    longest = sorted((index for index, gap in enumerate(gaps) if gap > shortest), key=lambda index: -gaps[index])
    left_out = set(longest[:most])
    parts = list(merged[:1])
    for index, span in enumerate(merged[1:]):
        if index in left_out:
            parts.append(span)
        else:
            parts[-1] = Span(parts[-1].begin, span.end)
    return parts
