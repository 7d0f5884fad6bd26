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

import functools
import inspect
from collections.abc import Awaitable, Callable, Generator
from contextlib import closing
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from infinitic_testing.runner import Runner
    from infinitic_testing.simulation import Simulation

_TEST = pytest.StashKey[Callable[..., Any]]()
_SIGNATURE = pytest.StashKey[inspect.Signature]()
_RUNNER = pytest.StashKey["Runner"]()
# The names of the fixtures of a test that use `sim`, also through other fixtures.
_USERS = pytest.StashKey[set[str]]()


class _FreshSimulation:
    """Stands for `sim` in the arguments of hypothesis, which shows it in falsifying examples."""

    def __repr__(self) -> str:
        return "<fresh>"


_FRESH = _FreshSimulation()
_OPTIONS = ("cache_size", "codec", "seed")


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("infinitic", "simulations of workflows")
    group.addoption(
        "--infinitic-record",
        metavar="DIR",
        default=None,
        help="write the history of each workflow that ends in a test with `sim` to a file below DIR, for sim.replay",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "infinitic(cache_size=1000, codec=None, seed=0): options of the fixture sim")


@pytest.fixture
def sim(request: Any) -> Simulation:
    """A fresh simulation for each test: broker, storage, virtual clock, worker and client.

    Its methods are those of `infinitic_testing.simulation.Simulation`. When the test ends, each of
    its workflows is replayed: a workflow that does not repeat its history fails the test.

    A mark gives its options by name: `cache_size`, `codec`, `seed`. The closest mark wins::

        @pytest.mark.infinitic(cache_size=0)
        async def test_a_trip_survives_a_crash_at_every_step(sim): ...
    """
    return _new_simulation(request.node)


def _new_simulation(node: pytest.Item) -> Simulation:
    """Make a simulation with the options of ``@pytest.mark.infinitic``. The closest mark wins."""
    from infinitic_testing.simulation import Simulation

    options: dict[str, Any] = {}
    for mark in node.iter_markers("infinitic"):
        unknown = [f"{name}=…" for name in mark.kwargs if name not in _OPTIONS] + [repr(each) for each in mark.args]
        if unknown:
            pytest.fail(
                f"@pytest.mark.infinitic({', '.join(unknown)}): the options are {', '.join(_OPTIONS)}, given by name",
                pytrace=False,
            )
        options = {**mark.kwargs, **options}
    return Simulation(**options)


# Tests.


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Remember the coroutine function of a test before another plugin replaces it."""
    __tracebackhide__ = True
    if not isinstance(item, pytest.Function) or "sim" not in item.fixturenames:
        return (yield)
    given = getattr(item.obj, "hypothesis", None)
    function: Any = item.obj if given is None else given.inner_test
    if not inspect.iscoroutinefunction(inspect.unwrap(function)):
        return (yield)
    item.stash[_TEST] = function
    if given is None:
        return (yield)
    # hypothesis refuses fixtures that are not fresh for each example. Ours is fresh, so it is
    # hidden from this check until the test is called.
    test = cast(Any, item).function
    whole = inspect.signature(test)
    test.__signature__ = whole.replace(parameters=[each for each in whole.parameters.values() if each.name != "sim"])
    item.stash[_SIGNATURE] = whole
    try:
        return (yield)
    finally:
        test.__signature__ = whole


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Run an async test that uses `sim` in virtual time. Other tests go to the next plugin."""
    __tracebackhide__ = True
    function = pyfuncitem.stash.get(_TEST, None)
    simulation: Any = pyfuncitem.funcargs.get("sim")
    if function is None or not _is_simulation(simulation):
        return (yield)
    given = getattr(pyfuncitem.obj, "hypothesis", None)
    if given is not None:
        cast(Any, pyfuncitem).function.__signature__ = pyfuncitem.stash[_SIGNATURE]
        _check_fixtures(pyfuncitem)
        pyfuncitem.funcargs["sim"] = _FRESH
        holder, name, test = given, "inner_test", _wrap_examples(pyfuncitem, function)
    else:
        holder, name, test = pyfuncitem, "obj", _wrap_test(pyfuncitem, simulation, function)
    before = getattr(holder, name)
    setattr(holder, name, test)
    try:
        return (yield)
    finally:
        setattr(holder, name, before)


def _is_simulation(value: object) -> bool:
    """False if `sim` is a fixture of somebody else."""
    from infinitic_testing.simulation import Simulation

    return isinstance(value, Simulation)


def _wrap_test(item: pytest.Function, simulation: Simulation, function: Callable[..., Any]) -> Callable[..., None]:
    """Make a plain function that runs an async test in a simulation."""
    runner = _runner_of(item, simulation)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        # A coroutine, unless a decorator has run it already.
        result = function(*args, **kwargs)
        if inspect.isawaitable(result):
            _run(item, runner, result)

    return run


def _wrap_examples(item: pytest.Item, function: Callable[..., Any]) -> Callable[..., None]:
    """Make a plain function that runs each example of hypothesis in a fresh simulation."""
    from infinitic_testing.runner import Runner

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        simulation = _new_simulation(item)
        runner = Runner(simulation)
        own = {name: simulation if value is _FRESH else value for name, value in kwargs.items()}
        with closing(runner):
            _run(item, runner, function(*args, **own))

    return run


def _run(item: pytest.Item, runner: Runner, test: Awaitable[object]) -> None:
    """Run a test. Unless ``--full-trace`` is given, its errors show lines of the user only."""
    __tracebackhide__ = True
    try:
        runner.run_test(test)
        _record(item, runner.simulation)
    except BaseException as error:
        if item.config.getoption("fulltrace"):
            raise
        from infinitic_testing.tracebacks import shorten_traceback

        raise shorten_traceback(error)  # noqa: B904 (it is the same one)


def _record(item: pytest.Item, simulation: Simulation) -> None:
    """Write the histories of a test that has passed, if ``--infinitic-record`` is given.

    Their folder is named by the test. The examples of hypothesis are not recorded: they are others
    in each run.
    """
    folder = item.config.getoption("infinitic_record")
    if folder is None or hasattr(cast(Any, item).obj, "hypothesis"):
        return
    from infinitic_testing.kept_instances import make_file_name

    file, *names = item.nodeid.split("::")
    parts = [*file.removesuffix(".py").split("/"), *names]
    place = item.config.invocation_params.dir.joinpath(folder, *map(make_file_name, parts))
    simulation.record_histories(place, test=item.nodeid, root=item.config.rootpath)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show only the message of an error that has no line of the user."""
    report = yield
    failure = call.excinfo
    if failure is not None and report.failed and _TEST in item.stash and not item.config.getoption("fulltrace"):
        from infinitic_testing.tracebacks import has_no_user_frame

        if has_no_user_frame(failure.value):
            report.longrepr = f"{failure.typename}: {failure.value}"
    return report


def _check_fixtures(item: pytest.Function) -> None:
    """With hypothesis, refuse fixtures that use `sim`: they would prepare another simulation."""
    users = item.stash.get(_USERS, None)
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
    users: set[str] = request.node.stash.setdefault(_USERS, set())
    if "sim" not in fixturedef.argnames and users.isdisjoint(fixturedef.argnames):
        return (yield)
    users.add(fixturedef.argname)
    function = fixturedef.func
    if not inspect.iscoroutinefunction(function) and not inspect.isasyncgenfunction(function):
        return (yield)
    simulation = request.getfixturevalue("sim")
    if not _is_simulation(simulation):
        return (yield)
    runner = _runner_of(request.node, simulation)
    runner.is_kept = True
    setattr(fixturedef, "func", _wrap_fixture(runner, function, request))  # noqa: B010 (final for type checkers)
    try:
        return (yield)
    finally:
        setattr(fixturedef, "func", function)  # noqa: B010 (as above)


def _wrap_fixture(runner: Runner, function: Any, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make a plain fixture function that runs an async one in a simulation."""
    instance = request.instance
    if inspect.ismethod(function) and type(function.__self__) is type(instance):
        # The test class has a fresh object for each test.
        function = function.__func__.__get__(instance)

    def set_up(**kwargs: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            return runner.run(function(**kwargs))
        generator = function(**kwargs)
        value = runner.run(anext(generator))
        request.addfinalizer(lambda: runner.run(_finish(generator)))
        return value

    return set_up


async def _finish(generator: Any) -> None:
    """Run what a fixture does after its `yield`."""
    try:
        await anext(generator)
    except StopAsyncIteration:
        return
    await generator.aclose()
    raise RuntimeError("An async fixture must yield exactly once")


def _runner_of(item: pytest.Item, simulation: Simulation) -> Runner:
    from infinitic_testing.runner import Runner

    runner = item.stash.get(_RUNNER, None)
    if runner is None or runner.simulation is not simulation:
        runner = item.stash[_RUNNER] = Runner(simulation)
        item.addfinalizer(runner.close)
    return runner
