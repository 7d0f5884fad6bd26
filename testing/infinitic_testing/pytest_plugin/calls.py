"""Makes plain functions of async tests: each runs its test in one or many simulations."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Awaitable, Callable
from contextlib import closing
from typing import Any, TypeVar

import pytest

from infinitic_testing.kept_instances import make_file_name
from infinitic_testing.pytest_plugin.item_state import GIVEN, ItemState
from infinitic_testing.pytest_plugin.options import find_path
from infinitic_testing.pytest_plugin.reporting import describe_seed_found
from infinitic_testing.pytest_plugin.seeds import NO_SEEDS, SeededTest, show_workflows
from infinitic_testing.pytest_plugin.summary import note_seeds
from infinitic_testing.pytest_plugin.tracing import write_run
from infinitic_testing.runner import Runner
from infinitic_testing.simulation import Simulation
from infinitic_testing.tracebacks import shorten_traceback

Call = Callable[..., None]
E = TypeVar("E", bound=BaseException)


class _FreshSimulation:
    """Stands for `sim` in the arguments of hypothesis, which shows it in falsifying examples."""

    def __repr__(self) -> str:
        return "<fresh>"


FRESH = _FreshSimulation()


def wrap_test(state: ItemState, simulation: Simulation, function: Callable[..., Any]) -> Call:
    """Make a plain function that runs an async test, once or under its seeds.

    Args:
        state: the test.
        simulation: that for which its fixtures are set up.
        function: its coroutine function.
    """
    if state.options.seeds is not None:
        if state.run is not None:
            return _wrap_seeds(state, function)
        if any("seeds" in mark.kwargs for mark in state.item.iter_markers("infinitic")):
            return _refuse_seeds
        # The command line asks for seeds: what cannot have them runs once.
    runner = state.find_runner(simulation)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        # A coroutine, unless a decorator has run it already.
        result = function(*args, **kwargs)
        if inspect.isawaitable(result):
            try:
                _run(state, runner, result)
            except (Exception, pytest.fail.Exception) as error:
                show_workflows(state, simulation, error)
                write_run(state.item, "", simulation, error)
                raise
            write_run(state.item, "", simulation, None)
            _record(state.item, simulation)

    return run


def wrap_plain(state: ItemState, function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function that calls a plain one, and whose errors show lines of the user only.

    Args:
        state: the test.
        function: its function, which is no coroutine function.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        __tracebackhide__ = True
        try:
            return function(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 (raised again)
            raise _shorten(state.item, error)  # noqa: B904 (it is the same one)

    return run


def wrap_examples(state: ItemState, function: Callable[..., Any]) -> Call:
    """Make a plain function that runs each example of hypothesis in fresh simulations.

    Args:
        state: the test.
        function: its coroutine function.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        for each in state.list_runs():
            simulation = state.make_simulation(each)
            runner = Runner(simulation)
            own = {name: simulation if value is FRESH else value for name, value in kwargs.items()}
            with closing(runner):
                try:
                    _run(state, runner, function(*args, **own))
                except Exception as error:
                    if state.options.seeds is not None:
                        error.add_note("without faults" if each.seed is None else f"under seed {each.seed}")
                    write_run(state.item, "an example", simulation, error)
                    raise
                write_run(state.item, "an example", simulation, None)

    return run


def _refuse_seeds(**kwargs: Any) -> None:
    pytest.fail(NO_SEEDS, pytrace=False)


def _wrap_seeds(state: ItemState, function: Callable[..., Any]) -> Call:
    item = state.item
    test = SeededTest(state, function, on_plain=lambda simulation: _record(item, simulation))

    @functools.wraps(function)
    def run(**kwargs: Any) -> None:
        __tracebackhide__ = True
        try:
            found = test.run(kwargs)
        except BaseException as error:  # noqa: BLE001 (raised again)
            raise _shorten(item, error)  # noqa: B904 (it is the same one)
        finally:
            note_seeds(item, test.seeds, test.fired)
        if found is not None:
            report = describe_seed_found(item, item.config.stash[GIVEN], found)
            state.sections.insert(0, (f"infinitic: seed {found.failure.report.seed}", report))
            raise _shorten(item, found.error)

    return run


def _run(state: ItemState, runner: Runner, test: Awaitable[object]) -> None:
    __tracebackhide__ = True
    try:
        runner.run_test(test)
    except BaseException as error:  # noqa: BLE001 (raised again)
        raise _shorten(state.item, error)  # noqa: B904 (it is the same one)


def _shorten(item: pytest.Item, error: E) -> E:
    """Unless ``--full-trace`` is given, have an error show lines of the user only."""
    return error if item.config.getoption("fulltrace") else shorten_traceback(error)


def _record(item: pytest.Item, simulation: Simulation) -> None:
    """Write the histories of a test that has passed, if ``--infinitic-record`` is given.

    Their folder is named by the test. The examples of hypothesis are not recorded: they are others
    in each run.
    """
    folder = find_path(item.config, "infinitic_record")
    if folder is None:
        return
    file, *names = item.nodeid.split("::")
    parts = [*file.removesuffix(".py").split("/"), *names]
    place = folder.joinpath(*map(make_file_name, parts))
    simulation.record_histories(place, test=item.nodeid, root=item.config.rootpath)
