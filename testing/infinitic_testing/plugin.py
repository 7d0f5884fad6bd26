"""The pytest plugin: the fixture `sim`, and the coroutine tests and fixtures that use it. No marks, no set-up.

A test that uses `sim` runs on virtual time, whichever plugin (pytest-asyncio, anyio, hypothesis) owns it: at the call,
the coroutine function is replaced with a plain one that runs it. So other plugins find nothing to run. Their own
fixtures stay theirs. Nothing of the engines is imported until a test asks for `sim`.
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
_USERS = pytest.StashKey[set[str]]()  # names of the fixtures of a test that use `sim`, also through others


class _Fresh:
    """What hypothesis gives on to a test instead of a simulation, and shows in its falsifying examples."""

    def __repr__(self) -> str:
        return "<fresh>"


_FRESH = _Fresh()
_OPTIONS = ("cache_size", "codec", "seed")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "infinitic(cache_size=1000, codec=None, seed=0): options of the simulation that the fixture sim is"
    )


@pytest.fixture
def sim(request: Any) -> Simulation:
    """A fresh simulation: broker, storage, virtual clock, worker and client. See `infinitic_testing.simulation`."""
    return _new_simulation(request.node)


def _new_simulation(node: pytest.Item) -> Simulation:
    """A simulation with the options of the marks ``@pytest.mark.infinitic(…)``; the closest mark wins."""
    from infinitic_testing.simulation import Simulation

    options: dict[str, Any] = {}
    for mark in node.iter_markers("infinitic"):
        unknown = [f"{name}=…" for name in mark.kwargs if name not in _OPTIONS] + [repr(each) for each in mark.args]
        if unknown:
            pytest.fail(
                f"@pytest.mark.infinitic({', '.join(unknown)}): its options are {', '.join(_OPTIONS)}, by name",
                pytrace=False,
            )
        options = {**mark.kwargs, **options}
    return Simulation(**options)


# Tests.


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Remember the coroutine function of a test, before the plugin that owns the test replaces it."""
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
    # hypothesis looks for fixtures that are not fresh for each example. Ours is: hide it until the test is called.
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
    """Run a coroutine test that uses `sim` on virtual time; leave all others to whichever plugin owns them."""
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
        holder, name, test = given, "inner_test", _each_example(pyfuncitem, function)
    else:
        holder, name, test = pyfuncitem, "obj", _once(pyfuncitem, simulation, function)
    before = getattr(holder, name)
    setattr(holder, name, test)
    try:
        return (yield)
    finally:
        setattr(holder, name, before)


def _is_simulation(value: object) -> bool:
    """False for a fixture of the same name that is none of ours."""
    from infinitic_testing.simulation import Simulation

    return isinstance(value, Simulation)


def _once(item: pytest.Function, simulation: Simulation, function: Callable[..., Any]) -> Callable[..., None]:
    runner = _runner_of(item, simulation)

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> None:
        __tracebackhide__ = True
        result = function(*args, **kwargs)  # a coroutine, unless a decorator has run it already
        if inspect.isawaitable(result):
            _run(item, runner, result)

    return run


def _each_example(item: pytest.Item, function: Callable[..., Any]) -> Callable[..., None]:
    """A function that hypothesis calls for each example: with a simulation of its own."""
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
    """Run a test, and show the user's lines in what it raises, unless all lines are wanted."""
    __tracebackhide__ = True
    try:
        runner.run_test(test)
    except BaseException as error:
        if item.config.getoption("fulltrace"):
            raise
        from infinitic_testing.tracebacks import tidy

        raise tidy(error)  # noqa: B904 (it is the same one)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Of an error that has no line of the user, show what it says."""
    report = yield
    failure = call.excinfo
    if failure is not None and report.failed and _TEST in item.stash and not item.config.getoption("fulltrace"):
        from infinitic_testing.tracebacks import shows_nothing

        if shows_nothing(failure.value):
            report.longrepr = f"{failure.typename}: {failure.value}"
    return report


def _check_fixtures(item: pytest.Function) -> None:
    """Refuse fixtures that prepare a simulation, where each example has a fresh one."""
    users = item.stash.get(_USERS, None)
    if users:
        pytest.fail(
            f"With @given each example has a fresh simulation, and the fixture '{min(users)}' prepares another one: "
            "make it a function that the test calls with its `sim`",
            pytrace=False,
        )


# Fixtures.


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: Any) -> Generator[None, object, object]:
    """Run an asynchronous fixture that uses `sim` in its simulation, before and after the test."""
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
    setattr(fixturedef, "func", _in_simulation(runner, function, request))  # noqa: B010 (final for type checkers)
    try:
        return (yield)
    finally:
        setattr(fixturedef, "func", function)  # noqa: B010 (as above)


def _in_simulation(runner: Runner, function: Any, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A plain function that does what an asynchronous fixture does."""
    instance = request.instance
    if inspect.ismethod(function) and type(function.__self__) is type(instance):
        function = function.__func__.__get__(instance)  # the class has a fresh object for each test

    def set_up(**kwargs: Any) -> Any:
        if inspect.iscoroutinefunction(function):
            return runner.run(function(**kwargs))
        generator = function(**kwargs)
        value = runner.run(anext(generator))
        request.addfinalizer(lambda: runner.run(_finish(generator)))
        return value

    return set_up


async def _finish(generator: Any) -> None:
    try:
        await anext(generator)
    except StopAsyncIteration:
        return
    await generator.aclose()
    raise RuntimeError("An asynchronous fixture yields once")


def _runner_of(item: pytest.Item, simulation: Simulation) -> Runner:
    from infinitic_testing.runner import Runner

    runner = item.stash.get(_RUNNER, None)
    if runner is None or runner.simulation is not simulation:
        runner = item.stash[_RUNNER] = Runner(simulation)
        item.addfinalizer(runner.close)
    return runner
