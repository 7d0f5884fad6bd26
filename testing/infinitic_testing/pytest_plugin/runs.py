"""The runs of one test, and how each of them is made."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from infinitic_testing.choices import Key
from infinitic_testing.pytest_plugin.marks import TestOptions

if TYPE_CHECKING:
    from infinitic_testing.simulation import Simulation


@dataclass(frozen=True)
class RunOptions:
    """How one run of a test is made.

    Attributes:
        seed: the seed; None for the run without faults.
        only: the choices that keep their drawn values; None: all.
    """

    seed: int | None
    only: frozenset[Key] | None = None


def list_runs(options: TestOptions, *, begins_plain: bool) -> Iterator[RunOptions]:
    """List the runs of a test.

    Args:
        options: those of the test.
        begins_plain: whether a run without faults comes first, if there are seeds.
    """
    if options.seeds is None:
        yield RunOptions(options.first)
        return
    if begins_plain:
        yield RunOptions(None)
    for seed in range(options.first, options.first + options.seeds):
        yield RunOptions(seed, options.only)


def make_simulation(options: TestOptions, run: RunOptions) -> Simulation:
    """Make the simulation of a run.

    Args:
        options: those of the test.
        run: those of the run.
    """
    from infinitic_testing.simulation import Simulation

    if run.seed is None:
        # Without choices: also what the test itself draws is plain.
        return Simulation(cache_size=options.cache_size, codec=options.codec, middleware=options.middleware, only=())
    return Simulation(
        seed=run.seed,
        faults=options.faults,
        profile=options.profile,
        cache_size=options.cache_size,
        codec=options.codec,
        middleware=options.middleware,
        only=run.only,
    )


def is_simulation(value: object) -> bool:
    """False if `sim` is a fixture of somebody else."""
    from infinitic_testing.simulation import Simulation

    return isinstance(value, Simulation)
