"""The pytest plugin: the fixture `sim`, and coroutine tests that use it. No marks, no set-up.

Imports nothing of the engines until a test asks for `sim`: other tests pay nothing for it.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from infinitic_testing.simulation import Simulation


@pytest.fixture
def sim() -> Simulation:
    """A fresh simulation: broker, storage, virtual clock, worker and client. See `infinitic_testing.simulation`."""
    from infinitic_testing.simulation import Simulation

    return Simulation()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> object:
    """Run a coroutine test that uses `sim` on virtual time; leave all others to whichever plugin owns them."""
    function = pyfuncitem.obj
    if "sim" not in pyfuncitem.fixturenames or not inspect.iscoroutinefunction(function):
        return None
    simulation: Any = pyfuncitem.funcargs["sim"]
    arguments = {name: pyfuncitem.funcargs[name] for name in inspect.signature(function).parameters}
    simulation.run(_run(simulation, function, arguments))
    return True


async def _run(simulation: Simulation, function: Any, arguments: dict[str, Any]) -> None:
    async with simulation:
        await function(**arguments)
