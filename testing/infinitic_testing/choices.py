"""All random choices of a run, drawn from one seed.

Each choice has a label, such as "schedule" or "latency/publish", and a number: how many choices
with this label came before. The label and the number together are its key. A label has random
numbers of its own. So a choice depends on the seed and its key alone, and one more choice with
another label changes nothing.

This is what makes a failing run small: all choices but a few are made *plain* (the oldest message
first, no delay, no fault), and the few keep their values.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterator

Key = tuple[str, int]
"""The label of a choice, and its number among those of the label, from 0."""


class Choices:
    """Draws the choices of one run.

    Attributes:
        seed: the seed.
        taken: the choices so far that were not plain, by key, in order: with only these, a run
            makes the same choices again.

    Args:
        seed: any integer. Two runs with the same seed make the same choices.
        only: the keys of the choices that keep their drawn values. All others are plain. None: all
            keep them.
    """

    __slots__ = ("_labels", "_only", "seed", "taken")

    def __init__(self, seed: int, *, only: Collection[Key] | None = None) -> None:
        self.seed = seed
        self.taken: dict[Key, float] = {}
        self._only = None if only is None else frozenset(only)
        # Of each label: its generator, and the number of the next choice.
        self._labels: dict[str, tuple[Callable[[], float], Iterator[int]]] = {}

    def pick(self, label: str, count: int) -> int:
        """Draw an index below `count`. The plain choice is 0.

        Args:
            label: names the kind of choice.
            count: 1 or more.
        """
        key, value = self._draw(label)
        index = int(value * count)
        if index:
            self.taken[key] = value
        return index

    def happens(self, label: str, probability: float) -> bool:
        """Draw whether something happens. The plain choice is that it does not.

        Args:
            label: names the kind of choice.
            probability: from 0.0 (never) to 1.0 (always, if the choice is not made plain).
        """
        key, value = self._draw(label)
        # From 0.0 exclusive: 0.0 is what a plain choice draws.
        if value <= 1.0 - probability:
            return False
        self.taken[key] = value
        return True

    def between(self, label: str, low: float, high: float) -> float:
        """Draw a number from `low` to `high`. The plain choice is `low`."""
        key, value = self._draw(label)
        if value:
            self.taken[key] = value
        return low + (high - low) * value

    def stream(self, label: str) -> random.Random:
        """Make a generator of its own for code that needs many random numbers.

        Its numbers depend on the seed and the label alone. They are not choices: they are never
        made plain.

        Args:
            label: names the generator. The same label gives the same numbers again.
        """
        return random.Random(f"{self.seed}/{label}")

    def make_ids(self, label: str) -> Callable[[], str]:
        """Return a function that makes a new id at each call, as `infinitic.ids.new_id` does.

        Args:
            label: names who makes the ids. Two labels give different ids.
        """
        draw = self.stream(f"ids/{label}").getrandbits
        return lambda: f"{draw(128):032x}"

    def _draw(self, label: str) -> tuple[Key, float]:
        """Draw the next number of a label: from 0.0 to below 1.0, and 0.0 if it is plain."""
        found = self._labels.get(label)
        if found is None:
            found = self._labels[label] = random.Random(f"{self.seed}:{label}").random, itertools.count()
        draw, numbers = found
        key = label, next(numbers)
        value = draw()
        if self._only is not None and key not in self._only:
            return key, 0.0
        return key, value
