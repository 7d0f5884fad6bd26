"""The pytest plugin: the fixture `sim`, and the async tests and fixtures that use it.

There are no marks to set, and nothing to set up::

    async def test_a_trip_is_booked(sim):
        sim.mock(Flights).book.returns("AF1")
        sim.add_workflow(Trip)
        assert await sim.client.new_workflow(Trip).book("Paris") == "AF1"

A test that uses `sim` always runs in virtual time, also beside pytest-asyncio, anyio and
hypothesis: at the call of the test, its coroutine function is replaced by a plain function that
runs it. So the other plugins find nothing to run. Their own tests and fixtures are not touched.

The plugin imports no engine until a test asks for `sim`.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, cast

import pytest

from infinitic_testing.pytest_plugin.fixtures import is_async_fixture, wrap_fixture
from infinitic_testing.pytest_plugin.item_state import GIVEN, ItemState
from infinitic_testing.pytest_plugin.options import add_options, read_given
from infinitic_testing.pytest_plugin.runs import is_simulation
from infinitic_testing.pytest_plugin.summary import describe_seeds
from infinitic_testing.pytest_plugin.tracing import begin_trace
from infinitic_testing.release import find_release

if TYPE_CHECKING:
    from infinitic_testing.simulation import Simulation


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers",
        "infinitic(seeds=None, faults='none', profile=None, cache_size=None, codec=None, middleware=(), seed=0): "
        "options of the fixture sim. With seeds=N, the test runs under N seeds, with faults",
    )
    config.stash[GIVEN] = read_given(config)
    begin_trace(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    given = config.stash[GIVEN]
    here = find_release() if given.found_by else ""
    if given.found_by == here:
        return []
    return [
        f"infinitic: seed {given.seed} was found by infinitic {given.found_by}. "
        f"This is infinitic {here}, which may make another run of it"
    ]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    line = describe_seeds(terminalreporter)
    if line:
        terminalreporter.write_line(line)


@pytest.fixture
def sim(request: Any) -> Simulation:
    """A fresh simulation for each test: broker, storage, virtual clock, workers and client.

    Its methods are those of `infinitic_testing.simulation.Simulation`. When the test ends, each of
    its workflows is replayed: a workflow that does not repeat its history fails the test.

    A mark gives its options by name: `seeds`, `faults`, `profile`, `cache_size`, `codec`,
    `middleware`, `seed`. The closest mark wins::

        @pytest.mark.infinitic(seeds=100)
        async def test_a_trip_survives_all_faults(sim): ...
    """
    return ItemState.of(request.node).make_simulation()


# Tests.


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Remember the function of a test before another plugin replaces it."""
    __tracebackhide__ = True
    if not isinstance(item, pytest.Function) or "sim" not in item.fixturenames:
        return (yield)
    state = ItemState.of(item)
    state.test = state.find_function()
    if not state.is_async or state.examples is None:
        return (yield)
    # hypothesis refuses fixtures that are not fresh for each example. Ours is fresh, so it is
    # hidden from this check until the test is called.
    test = cast(Any, item).function
    whole = state.signature = inspect.signature(test)
    test.__signature__ = whole.replace(parameters=[each for each in whole.parameters.values() if each.name != "sim"])
    try:
        return (yield)
    finally:
        test.__signature__ = whole


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run a test that uses `sim`, an async one in virtual time. Others go to the next plugin."""
    __tracebackhide__ = True
    state = ItemState.find(pyfuncitem)
    simulation: Any = pyfuncitem.funcargs.get("sim")
    if state is None or state.test is None or not is_simulation(simulation):
        return (yield)
    examples = state.examples
    if examples is not None and not state.is_async:
        return (yield)
    from infinitic_testing.pytest_plugin import calls

    if examples is not None:
        cast(Any, pyfuncitem).function.__signature__ = state.signature
        _check_fixtures(state)
        pyfuncitem.funcargs["sim"] = calls.FRESH
        holder, name, test = examples, "inner_test", calls.wrap_examples(state, state.test)
    elif state.is_async:
        holder, name, test = pyfuncitem, "obj", calls.wrap_test(state, simulation, state.test)
    else:
        holder, name, test = pyfuncitem, "obj", calls.wrap_plain(state, state.test)
    before = getattr(holder, name)
    setattr(holder, name, test)
    try:
        return (yield)
    finally:
        setattr(holder, name, before)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show only the message of an error that has no line of the user."""
    report = yield
    failure = call.excinfo
    state = ItemState.find(item)
    if failure is None or not report.failed or state is None or state.test is None:
        return report
    if not item.config.getoption("fulltrace"):
        from infinitic_testing.tracebacks import has_no_user_frame

        if has_no_user_frame(failure.value):
            report.longrepr = "\n".join(
                [f"{failure.typename}: {failure.value}", *getattr(failure.value, "__notes__", ())]
            )
    if call.when == "call":
        _add_sections(report, state)
    return report


def _add_sections(report: pytest.TestReport, state: ItemState) -> None:
    """Add what is known of a failing seed, and of the workflows, behind the traceback."""
    for title, text in state.sections:
        shown: Any = report.longrepr
        if hasattr(shown, "addsection"):
            shown.addsection(title, text)
        else:
            report.longrepr = f"{shown}\n\n{title}\n{text}"


def _check_fixtures(state: ItemState) -> None:
    """With hypothesis, refuse fixtures that use `sim`: they would prepare another simulation."""
    users = state.fixtures.list_users()
    if users:
        pytest.fail(
            f"With @given each example has a fresh simulation, but the fixture '{min(users)}' "
            "prepares another one: make it a function that the test calls with its `sim`",
            pytrace=False,
        )


# Fixtures.


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: Any) -> Generator[None, object, object]:
    """Run an async fixture that uses `sim` in this simulation, before and after the test."""
    if request.scope != "function":
        return (yield)
    if fixturedef.argname != "sim" and ItemState.find(request.node) is None:
        return (yield)
    state = ItemState.of(request.node)
    if not state.fixtures.note(fixturedef, request):
        return (yield)
    function = fixturedef.func
    if not is_async_fixture(function):
        return (yield)
    simulation = request.getfixturevalue("sim")
    if not is_simulation(simulation):
        return (yield)
    runner = state.find_runner(simulation)
    runner.is_kept = True
    setattr(fixturedef, "func", wrap_fixture(runner, function, request))  # noqa: B010 (final for type checkers)
    try:
        return (yield)
    finally:
        setattr(fixturedef, "func", function)  # noqa: B010 (as above)
