"""Middlewares that are written wrongly: each is named, and harms nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import pytest

from infinitic import (
    CallNext,
    Client,
    ClientCall,
    Middleware,
    MiddlewareError,
    TaskContext,
    UsageError,
    Workflow,
    WorkflowContext,
)
from infinitic.storage import Flag
from infinitic_testing.simulation import Simulation
from infinitic_transports.memory import InMemoryTransport
from tests.simulation.letters import Letter, Tenant, play, say


class Forgetful(Middleware):
    def __init__(self, where: str) -> None:
        self.where = where

    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        return None if self.where == "client_call" else await call_next()

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        return "cached" if self.where == "execute_task" else await call_next()

    def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
        if self.where != "activate":
            call_next()


class Twice(Middleware):
    """Calls what is next twice, and hides the error."""

    def __init__(self, where: str) -> None:
        self.where = where

    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        return await self._again("client_call", call_next)

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        return await self._again("execute_task", call_next)

    def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
        call_next()
        if self.where == "activate":
            with contextlib.suppress(MiddlewareError):
                call_next()

    async def _again(self, where: str, call_next: CallNext) -> Any:
        result = await call_next()
        if self.where == where:
            with contextlib.suppress(MiddlewareError):
                await call_next()
        return result


@pytest.mark.parametrize("middleware", [Forgetful, Twice])
@pytest.mark.parametrize("where", ["client_call", "execute_task", "activate"])
def test_one_that_does_not_call_the_next_one_once_is_named(middleware: Any, where: str) -> None:
    async def main(sim: Simulation) -> None:
        how = "twice" if middleware is Twice else r"without having called call_next\(\)"
        with pytest.raises(Exception, match=rf"{middleware.__name__}\.{where} .*{how}"):
            await say(sim)

    play(main, middleware(where))


def test_one_that_forgets_to_await_is_told_so() -> None:
    class Hasty(Middleware):
        async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
            return call_next()

    class Early(Middleware):
        async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
            left = asyncio.ensure_future(call_next())
            left.add_done_callback(lambda done: done.cancelled() or done.exception())
            await asyncio.sleep(0)

    async def main(sim: Simulation) -> None:
        await say(sim)

    with pytest.raises(MiddlewareError, match=r"Hasty\.client_call must await call_next\(\)"):
        play(main, Hasty())
    with pytest.raises(MiddlewareError, match=r"Early\.client_call returned before call_next\(\) had ended"):
        play(main, Early())


@pytest.mark.parametrize("cache_size", [1000, 0])
def test_an_activation_whose_middleware_raises_stalls_and_goes_on_later(cache_size: int) -> None:
    class Broken(Middleware):
        works = False

        def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
            call_next()
            if not self.works:
                raise ValueError("no metrics today")

    broken = Broken()

    async def main(sim: Simulation) -> None:
        with pytest.raises(MiddlewareError, match=r"Broken\.activate raised ValueError: no metrics today"):
            await say(sim)
        (found,) = (await sim.client.list_workflows()).found
        assert (await sim.client.count_workflows(flag=Flag.STALLED)) == 1
        broken.works = True
        running = sim.client.get_workflow_by_id(Letter, found.key.id)
        await sim.client.retry_workflow_task(running, confirm=True)
        assert await sim.client.get_handle(Letter.say, found.key.id).result() == "hello for nobody"

    play(main, broken, cache_size=cache_size)


def test_no_middleware_hides_that_code_cannot_be_run() -> None:
    class Quiet(Middleware):
        def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
            with contextlib.suppress(Exception):
                call_next()

    class Bad(Workflow):
        async def run(self) -> None:
            await asyncio.get_running_loop().run_in_executor(None, int)

    async def main(sim: Simulation) -> None:
        sim.add_workflow(Bad)
        await sim.client.new_workflow(Bad).run()

    with pytest.raises(Exception, match="run_in_executor"):
        play(main, Quiet())


class Plain:
    pass


class SyncTask(Middleware):
    def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:  # wrong on purpose
        return call_next()


class AsyncActivate(Middleware):
    async def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # wrong on purpose
        call_next()


class TooFew(Middleware):
    async def client_call(self, call_next: CallNext) -> Any:  # type: ignore[override]  # pyright: ignore[reportIncompatibleMethodOverride]  # wrong on purpose
        return await call_next()


class OneName(Middleware):
    carried_meta = "tenant"  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]  # wrong on purpose


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([Tenant], r"got the class Tenant: give Tenant\(\)"),
        ([Plain()], "takes a list of Middleware objects, got <"),
        ([SyncTask()], "SyncTask.execute_task must be an `async def`"),
        ([AsyncActivate()], "AsyncActivate.activate must be a plain `def`"),
        ([TooFew()], r"TooFew.client_call is called with \(call, call_next\), and cannot be"),
        ([OneName()], "OneName.carried_meta is a set of names, got the text 'tenant'"),
    ],
)
def test_what_cannot_be_a_middleware_is_refused_when_it_is_given(wrong: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Client(InMemoryTransport(), middleware=wrong)


def test_a_middleware_that_is_given_alone_is_taken() -> None:
    client = Client(InMemoryTransport(), middleware=Tenant())  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # forgiving
    assert [layer.name for layer in client.layers] == ["Tenant.client_call"]


def test_every_verb_of_a_client_has_the_middlewares() -> None:
    """A new method of `Client` that asks something of somebody must not be forgotten."""
    by_hand = {"dispatch", "broadcast", "query", "signal"}  # and "call", which is no coroutine function
    none = {"start", "close", "ask", "read_outcome", "send_completion"}
    public = {name for name in dir(Client) if not name.startswith("_")}
    plain = {name for name in public if inspect.iscoroutinefunction(getattr(Client, name))}
    assert plain == by_hand | none


def test_what_overrides_nothing_is_no_layer() -> None:
    assert Client(InMemoryTransport(), middleware=[Middleware(), Middleware()]).layers == ()


def test_meta_that_cannot_travel_is_refused_at_the_call() -> None:
    class Wrong(Middleware):
        async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
            call.meta["tenant"] = "ada"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]  # wrong on purpose
            return await call_next()

    async def main(sim: Simulation) -> None:
        await say(sim)

    with pytest.raises(UsageError, match="meta is a mapping of texts to bytes, got 'tenant': 'ada'"):
        play(main, Wrong())
