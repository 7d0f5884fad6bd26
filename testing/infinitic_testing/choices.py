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
from collections.abc import Callable, Collection, Iterator

MOST_SEED = 2**53
"""The largest seed that users may give: any program that reads JSON reads it exactly."""

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

    __slots__ = ("_only", "_streams", "seed", "taken")

    def __init__(self, seed: int, *, only: Collection[Key] | None = None) -> None:
        self.seed = seed
        self.taken: dict[Key, float] = {}
        self._only = None if only is None else frozenset(only)
        # The numbers of each label, without an end.
        self._streams: dict[str, Iterator[tuple[int, float]]] = {}

    def pick(self, label: str, count: int) -> int:
        """Draw an index below `count`. The plain choice is 0.

        Args:
            label: names the kind of choice.
            count: 1 or more.
        """
        number, value = next(self._streams.get(label) or self._open_stream(label))
        index = int(value * count)
        if index:
            self.taken[label, number] = value
        return index

    def happens(self, label: str, probability: float) -> bool:
        """Draw whether something happens. The plain choice is that it does not.

        Args:
            label: names the kind of choice.
            probability: from 0.0 (never) to 1.0 (always, if the choice is not made plain).
        """
        number, value = next(self._streams.get(label) or self._open_stream(label))
        # From 0.0 exclusive: 0.0 is what a plain choice draws.
        if value <= 1.0 - probability:
            return False
        self.taken[label, number] = value
        return True

    def between(self, label: str, low: float, high: float) -> float:
        """Draw a number from `low` to `high`. The plain choice is `low`."""
        number, value = next(self._streams.get(label) or self._open_stream(label))
        if value:
            self.taken[label, number] = value
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

    def _open_stream(self, label: str) -> Iterator[tuple[int, float]]:
        """Make the numbers of a label: from 0.0 to below 1.0, and 0.0 if plain. Each is counted."""
        drawn = iter(random.Random(f"{self.seed}:{label}").random, None)
        stream: Iterator[tuple[int, float]] = enumerate(drawn)
        only = self._only
        if only is not None:
            stream = ((number, value if (label, number) in only else 0.0) for number, value in enumerate(drawn))
        self._streams[label] = stream
        return stream
