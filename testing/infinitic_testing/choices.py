"""All random choices of a run, drawn from one seed.

Each choice has a label, such as "schedule" or "latency/publish", and a number: how many choices
with this label came before. The label and the number together are its key. A label has random
numbers of its own. So a choice depends on the seed and its key alone, and one more choice with
another label changes nothing.

This is what makes a failing run small: all choices but a few are made *plain* (the oldest message
first, no delay, no fault), and the few keep their values.
"""

from __future__ import annotations

import random
from collections.abc import Collection

Key = tuple[str, int]
"""The label of a choice, and its number among those of the label, from 0."""


class Choices:
    """Draws the choices of one run.

    Attributes:
        seed: the seed.
        taken: the choices so far that were not plain, by key, in order.

    Args:
        seed: any integer. Two runs with the same seed make the same choices.
        only: the keys of the choices that keep their drawn values. All others are plain. None: all
            keep them.
    """

    __slots__ = ("_numbers", "_only", "_streams", "seed", "taken")

    def __init__(self, seed: int, *, only: Collection[Key] | None = None) -> None:
        self.seed = seed
        self.taken: dict[Key, float] = {}
        self._only = None if only is None else frozenset(only)
        self._streams: dict[str, random.Random] = {}
        self._numbers: dict[str, int] = {}

    def pick(self, label: str, count: int) -> int:
        """Draw an index below `count`. The plain choice is 0.

        Args:
            label: names the kind of choice.
            count: 1 or more.
        """
        return int(self._draw(label) * count)

    def happens(self, label: str, probability: float) -> bool:
        """Draw whether something happens. The plain choice is that it does not.

        Args:
            label: names the kind of choice.
            probability: from 0.0 (never) to 1.0 (always, if the choice is not made plain).
        """
        # From 0.0 exclusive: 0.0 is what a plain choice draws.
        return self._draw(label) > 1.0 - probability

    def between(self, label: str, low: float, high: float) -> float:
        """Draw a number from `low` to `high`. The plain choice is `low`."""
        return low + (high - low) * self._draw(label)

    def stream(self, label: str) -> random.Random:
        """Make a generator of its own for code that needs many random numbers.

        Its numbers depend on the seed and the label alone. They are not choices: they are never
        made plain.

        Args:
            label: names the generator. The same label gives the same numbers again.
        """
        return random.Random(f"{self.seed}/{label}")

    def _draw(self, label: str) -> float:
        """Draw the next number of a label: from 0.0 to below 1.0, and 0.0 if it is plain."""
        stream = self._streams.get(label)
        if stream is None:
            stream = self._streams[label] = random.Random(f"{self.seed}:{label}")
        number = self._numbers.get(label, 0)
        self._numbers[label] = number + 1
        value = stream.random()
        if self._only is not None and (label, number) not in self._only:
            return 0.0
        self.taken[label, number] = value
        return value
