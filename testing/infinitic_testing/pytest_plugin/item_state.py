"""What the plugin knows of one test while pytest runs it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast

import pytest

from infinitic_testing.pytest_plugin.fixtures import SimFixtures
from infinitic_testing.pytest_plugin.marks import TestOptions, read_test_options
from infinitic_testing.pytest_plugin.options import GivenOptions
from infinitic_testing.pytest_plugin.runs import RunOptions, list_runs, make_simulation
from infinitic_testing.pytest_plugin.tracing import keep_events

if TYPE_CHECKING:
    from infinitic_testing.runner import Runner
    from infinitic_testing.simulation import Simulation

GIVEN = pytest.StashKey[GivenOptions]()
_STATE = pytest.StashKey["ItemState"]()


class ItemState:
    """What the plugin knows of one test.

    Attributes:
        item: the test.
        fixtures: its fixtures that use `sim`.
        test: its function, once the test is called.
        signature: with hypothesis, that of the test as a whole.
        run: the run for which the fixtures are set up. None: they are not set up yet.
        later_runs: the runs that follow it.
        sections: what is shown behind the traceback of a failure: titles and texts.
    """

    def __init__(self, item: pytest.Item) -> None:
        self.item = item
        self.fixtures = SimFixtures(item)
        self.test: Callable[..., Any] | None = None
        self.signature: inspect.Signature | None = None
        self.run: RunOptions | None = None
        self.later_runs: Iterator[RunOptions] = iter(())
        self.sections: list[tuple[str, str]] = []
        self._given = item.config.stash[GIVEN]
        self._runner: Runner | None = None
        self._options: TestOptions | None = None

    @classmethod
    def of(cls, item: pytest.Item) -> ItemState:
        """Return that of a test."""
        found = item.stash.get(_STATE, None)
        if found is None:
            found = item.stash[_STATE] = cls(item)
        return found

    @classmethod
    def find(cls, item: pytest.Item) -> ItemState | None:
        """Return that of a test; None if the test does not use `sim`."""
        return item.stash.get(_STATE, None)

    @property
    def options(self) -> TestOptions:
        """How the test runs. A mark that makes no sense fails the test."""
        if self._options is None:
            options = read_test_options(self.item, self._given)
            # A plain function runs no workflow: there is nothing to run again.
            self._options = options if self.is_async else replace(options, seeds=None, faults="none", profile=None)
        return self._options

    def list_runs(self) -> Iterator[RunOptions]:
        """List all runs of the test."""
        return list_runs(self.options, begins_plain=self._given.seed is None)

    def make_simulation(self, run: RunOptions | None = None) -> Simulation:
        """Make the simulation of a run.

        Args:
            run: the run. None: that for which the fixtures are set up.
        """
        if run is None and self.run is None:
            self.later_runs = self.list_runs()
            self.run = next(self.later_runs)
        run = self.run if run is None else run
        assert run is not None
        made = make_simulation(self.options, run)
        keep_events(self.item.config, made)
        return made

    @property
    def is_async(self) -> bool:
        """True if the test is a coroutine function, perhaps inside of decorators."""
        return inspect.iscoroutinefunction(inspect.unwrap(self.find_function()))

    @property
    def examples(self) -> Any:
        """What hypothesis knows of the test. None: it is no test of hypothesis."""
        return getattr(getattr(self.item, "obj", None), "hypothesis", None)

    def find_function(self) -> Callable[..., Any]:
        """The function of the test; with hypothesis the one that gets the examples."""
        examples = self.examples
        return cast("Callable[..., Any]", cast(Any, self.item).obj if examples is None else examples.inner_test)

    def find_runner(self, simulation: Simulation) -> Runner:
        """Return the runner of a simulation. It is made, if this is another simulation than before.

        Args:
            simulation: the one that the fixtures of the test have.
        """
        from infinitic_testing.runner import Runner

        if self._runner is None:
            self.item.addfinalizer(self._close_runner)
        if self._runner is None or self._runner.simulation is not simulation:
            self._runner = Runner(simulation)
        return self._runner

    def _close_runner(self) -> None:
        if self._runner is not None:
            self._runner.close()
