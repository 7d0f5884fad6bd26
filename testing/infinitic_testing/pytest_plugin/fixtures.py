"""The fixtures of one test that use `sim`, also through other fixtures.

A test that runs under many seeds gets them anew for each seed. All its other fixtures stay.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import pytest

if TYPE_CHECKING:
    from infinitic_testing.runner import Runner


class SimFixtures:
    """The fixtures of a test that use `sim`, in the order in which they were set up.

    Args:
        item: the test.
    """

    def __init__(self, item: pytest.Item) -> None:
        self._item = item
        self._set_up: list[tuple[pytest.FixtureDef[Any], Any]] = []

    def note(self, fixture: pytest.FixtureDef[Any], request: Any) -> bool:
        """Remember a fixture that is being set up, if it is `sim` or uses it.

        Args:
            fixture: the fixture.
            request: for which it is set up.

        Returns:
            True if it uses `sim`. False for others, and for `sim` itself.
        """
        uses = not {"sim", *self.list_users()}.isdisjoint(fixture.argnames)
        if uses or fixture.argname == "sim":
            self._set_up.append((fixture, request))
        return uses

    def list_users(self) -> list[str]:
        """The names of the fixtures that use `sim`, without `sim` itself."""
        return [fixture.argname for fixture, _ in self._set_up if fixture.argname != "sim"]

    def tear_down(self) -> None:
        """Tear them down, the last one first. What they raise is raised at the end."""
        set_up, self._set_up = self._set_up, []
        errors: list[BaseException] = []
        for fixture, request in reversed(set_up):
            try:
                fixture.finish(request)
            except BaseException as error:  # noqa: BLE001 (raised below)
                errors.append(error)
        if len(errors) > 1:
            raise BaseExceptionGroup("errors while tearing down fixtures", errors)
        if errors:
            raise errors[0]

    def set_up_again(self) -> None:
        """Set all fixtures of the test up again. Those that were not torn down stay as they are."""
        # There is no other way to make pytest look for the fixtures of a test again.
        cast(Any, self._item)._initrequest()
        self._item.setup()


def is_async_fixture(function: object) -> bool:
    """True for a coroutine function, and for one with a `yield`."""
    return inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function)


def wrap_fixture(runner: Runner, function: Any, request: pytest.FixtureRequest) -> Callable[..., Any]:
    """Make a plain fixture function that runs an async one in a simulation.

    Args:
        runner: that of the simulation.
        function: the function of the fixture.
        request: for which it is set up.
    """
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
