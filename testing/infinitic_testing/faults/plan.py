"""When and how often each fault happens in one run."""

from __future__ import annotations

from collections import Counter
from enum import Enum

from infinitic_testing.choices import Choices
from infinitic_testing.faults.catalog import CATALOG, Faults

_HIGHEST = 0.1
"""The highest rate of a fault: how often it happens where it could."""

_LIKELY = 0.4
"""How likely it is that a run has a certain fault. A few at once reach other states than all do."""

_FIERCE_RUNS, _FIERCE = 0.25, 6.0
"""How likely it is that a run is fierce, and how much higher its rates are. A short test has few
places where a fault can happen: with usual rates it would have hardly any."""

_LABELS = {name: f"fault/{name}" for name in CATALOG}


class Phase(Enum):
    """A run begins quiet, then has faults, then is healed."""

    QUIET = "quiet"
    FAULTY = "faulty"
    HEALED = "healed"


class FaultPlan:
    """The faults of one run: a part of those that it may have, each with a rate of its own.

    Attributes:
        phase: faults happen only while it is `FAULTY`. Whoever runs the simulation sets it.
        rates: the faults that this run has, with how often they happen where they could, from 0.0
            to 1.0.
        fired: how often each fault has happened.
        is_fierce: true if faults happen very often in this run.

    Args:
        faults: what the run may have.
        choices: of the run.
    """

    def __init__(self, faults: Faults, choices: Choices) -> None:
        self.phase = Phase.QUIET
        self.fired: Counter[str] = Counter()
        self.rates: dict[str, float] = {}
        self._choices = choices
        self.is_fierce = bool(faults.names) and choices.happens("plan/fierce", _FIERCE_RUNS)
        highest = _HIGHEST * _FIERCE if self.is_fierce else _HIGHEST
        for name in CATALOG:
            if name in faults.names and (len(faults.names) == 1 or choices.happens(f"plan/{name}", _LIKELY)):
                self.rates[name] = highest * (0.05 + choices.between(f"rate/{name}", 0.0, 0.95))

    def fires(self, name: str, *, factor: float = 1.0) -> bool:
        """Draw whether a fault happens now. If it does, it is counted.

        Args:
            name: its name in the catalog.
            factor: how much more often than its rate; below 1.0 less often.
        """
        if not self.draw(name, factor=factor):
            return False
        self.fired[name] += 1
        return True

    def draw(self, name: str, *, factor: float = 1.0) -> bool:
        """Draw whether a fault is tried now. Nothing is counted: see `count`.

        It is for faults that may be tried in vain, such as a conflict that nobody else enters.

        Args:
            name: its name in the catalog.
            factor: how much more often than its rate; below 1.0 less often.
        """
        rate = self.rates.get(name)
        if rate is None or self.phase is not Phase.FAULTY:
            return False
        return self._choices.happens(_LABELS[name], min(1.0, rate * factor))

    def count(self, name: str) -> None:
        """Count a fault that has happened after `draw`. One that the run does not have is ignored.

        Args:
            name: its name in the catalog.
        """
        if name in self.rates and self.phase is Phase.FAULTY:
            self.fired[name] += 1

    def has(self, name: str) -> bool:
        """True if the run has this fault."""
        return name in self.rates
