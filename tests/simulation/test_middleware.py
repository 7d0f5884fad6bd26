"""Middleware: what stands around client calls, attempts of tasks and activations of workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from infinitic import (
    CallNext,
    ClientCall,
    Middleware,
    TaskContext,
    TaskFailedError,
    Workflow,
    WorkflowContext,
    WorkflowFailedError,
    service,
    task,
    task_context,
)
from infinitic_testing.simulation import Simulation
from tests.simulation.letters import Desk, Letter, Tenant, play, say, tenant


class Tracer(Middleware):
    """Notes when each method begins and ends."""

    def __init__(self, name: str, notes: list[str]) -> None:
        self.name = name
        self.notes = notes

    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        return await self._trace(call.verb, call_next)

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        return await self._trace(context.task_name, call_next)

    def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
        self.notes.append(f"{self.name}>activation")
        call_next()
        self.notes.append(f"{self.name}<activation")

    async def _trace(self, what: str, call_next: Callable[[], Awaitable[Any]]) -> Any:
        self.notes.append(f"{self.name}>{what}")
        try:
            return await call_next()
        finally:
            self.notes.append(f"{self.name}<{what}")


def test_the_first_one_is_the_outermost() -> None:
    notes: list[str] = []
    assert play(say, Tracer("a", notes), Tracer("b", notes)) == "hello for nobody"
    whole = ["a>call", "b>call"]
    step = ["a>activation", "b>activation", "b<activation", "a<activation"]
    attempt = ["a>say", "b>say", "b<say", "a<say"]
    assert notes == [*whole, *step, *attempt, *step, "b<call", "a<call"]


@pytest.mark.parametrize("cache_size", [1000, 0])
def test_activations_are_silent_in_replay(cache_size: int) -> None:
    """Without a cache each step repeats the history, and the check at the end does so once more."""
    notes: list[str] = []
    assert play(say, Tracer("a", notes), cache_size=cache_size) == "hello for nobody"
    assert notes.count("a>activation") == 2


class Seen(Middleware):
    """Keeps what it is shown."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.tasks: list[TaskContext] = []
        self.activations: list[WorkflowContext] = []

    async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
        result = await call_next()
        self.calls.append((call.verb, call.workflow_name, call.method_name, call.args, call.kwargs, result))
        return result

    async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
        self.tasks.append(context)
        return await call_next()

    def activate(self, context: WorkflowContext, call_next: Callable[[], None]) -> None:
        self.activations.append(context)
        call_next()


def test_every_verb_of_a_client_is_shown_with_decoded_values() -> None:
    seen = Seen()

    async def main(sim: Simulation) -> None:
        client = sim.client
        handle = await client.dispatch(client.new_workflow(Letter, tags={"eu"}, custom_id="one").listen)
        found = client.get_workflow_by_id(Letter, handle.workflow_id)
        assert await found.add(2) == 2
        assert await client.query(found.count) == 2
        await found.words.send("a", confirm=True)
        by_tag = client.get_workflow_by_tag(Letter, "eu")
        assert await client.get_ids(by_tag) == [handle.workflow_id]
        await client.broadcast(by_tag.add, 5)
        await client.describe(handle)
        await client.complete_timers(found, confirm=True)
        await client.list_workflows(name="Letter")
        await client.retry_stalled(Letter)
        await client.retry_stalled("Letter")
        await client.get_workflow_by_custom_id(Letter, "one").words.send("b")
        assert await handle.result(timeout=5) == "ab"
        await client.read_run(handle)
        await client.get_tasks(Desk, "blue")

    play(main, seen)
    shown = {
        (verb, workflow, method): (args, kwargs, result) for verb, workflow, method, args, kwargs, result in seen.calls
    }
    assert shown["call", "Letter", "add"] == ((2,), {}, 2)
    assert shown["query", "Letter", "count"] == ((), {}, 2)
    assert shown["signal", "Letter", "words"] == (("b",), {}, None)
    assert shown["broadcast", "Letter", "add"][0] == (5,)
    assert shown["result", "Letter", "listen"] == ((), {"timeout": 5}, "ab")
    assert shown["complete_timers", "Letter", ""][1] == {"confirm": True}
    assert shown["list_workflows", "Letter", ""][1] == {"name": "Letter"}
    assert shown["get_tasks", "", ""] == ((Desk, "blue"), {}, [])
    verbs = [call[0] for call in seen.calls]
    assert sorted({*verbs}) == [
        *("broadcast", "call", "complete_timers", "describe", "dispatch", "get_ids", "get_tasks", "list_workflows"),
        *("query", "read_run", "result", "retry_stalled", "signal"),
    ]
    assert verbs.count("retry_stalled") == 2


def test_a_task_is_shown_with_its_arguments_and_its_workflow() -> None:
    seen = Seen()
    play(say, seen)
    (context,) = seen.tasks
    assert (context.service_name, context.task_name, context.args, context.kwargs) == ("Desk", "say", ("hello",), {})
    assert {each.workflow_id for each in seen.activations} == {context.workflow_id}
    assert {(each.workflow_name, each.version, each.method_name) for each in seen.activations} == {("Letter", 0, "")}


class Envelope(Workflow):
    """A parent: its child has tasks."""

    letters = Workflow.new_workflow(Letter)

    async def send(self, word: str) -> str:
        return await self.letters.say(word)


@pytest.mark.parametrize("cache_size", [1000, 0])
@pytest.mark.parametrize("start", ["say", "shout", "send"])
def test_meta_that_a_client_sets_reaches_tasks_and_children(start: str, cache_size: int) -> None:
    """The task sees the context variable, on the loop and in a thread."""

    async def main(sim: Simulation) -> str:
        sim.add_workflow(Envelope)
        tenant.set("ada")
        stub: Any = sim.client.new_workflow(Envelope if start == "send" else Letter)
        # The task of another caller at the same time: neither sees the tenant of the other.
        other = asyncio.create_task(send_for("bob", sim))
        answer: str = await getattr(stub, start)("hi")
        assert await other == "yo for bob"
        return answer

    async def send_for(name: str, sim: Simulation) -> str:
        tenant.set(name)
        return await sim.client.new_workflow(Letter).say("yo")

    answer = play(main, Tenant(), cache_size=cache_size)
    assert answer == ("HI" if start == "shout" else "hi") + " for ada"


def test_a_stub_of_its_own_meta_counts_more_than_what_is_carried() -> None:
    class Own(Workflow):
        desk = Workflow.new_service(Desk, meta={"tenant": b"carol", "other": b"1"})

        async def run(self) -> str:
            return await self.desk.say("hi")

    async def main(sim: Simulation) -> str:
        sim.add_workflow(Own)
        return await sim.client.new_workflow(Own).run()

    assert play(main, Tenant()) == "hi for carol"


def test_a_check_that_raises_is_the_result() -> None:
    class Closed(Middleware):
        async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
            if call.method_name == "shout":
                raise PermissionError("not today")
            return await call_next()

        async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
            raise PermissionError(f"{context.args[0]} is not allowed")

    async def main(sim: Simulation) -> None:
        with pytest.raises(PermissionError, match="not today"):
            await sim.client.new_workflow(Letter).shout("hi")
        assert await sim.client.count_workflows() == 0
        with pytest.raises(WorkflowFailedError) as failed:
            await say(sim)
        cause = failed.value.cause
        assert isinstance(cause, TaskFailedError)
        assert cause.last_failure.exception.message == "hello is not allowed"

    play(main, Closed())


def test_errors_are_mapped_and_results_rewritten() -> None:
    class Mapping(Middleware):
        async def client_call(self, call: ClientCall, call_next: CallNext) -> Any:
            try:
                answer = await call_next()
            except WorkflowFailedError as error:
                raise LookupError("mapped") from error
            return f"<{answer}>" if call.verb == "call" else answer

        async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
            try:
                return f"[{await call_next()}]"
            except ConnectionError:
                raise TimeoutError("the line is busy") from None

    async def main(sim: Simulation) -> None:
        assert await say(sim) == "<[hello for nobody]>"
        with pytest.raises(LookupError) as raised:
            await sim.client.new_workflow(Letter).fail()
        cause = raised.value.__cause__
        assert isinstance(cause, WorkflowFailedError)
        assert isinstance(cause.cause, TaskFailedError)
        assert cause.cause.last_failure.exception.name == "builtins.TimeoutError"

    play(main, Mapping())


def test_a_result_of_another_type_is_refused_as_from_the_task() -> None:
    class Wrong(Middleware):
        async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
            await call_next()
            return 7

    async def main(sim: Simulation) -> None:
        with pytest.raises(WorkflowFailedError, match="PayloadError"):
            await say(sim)

    play(main, Wrong())


def test_waiting_in_a_middleware_does_not_count_for_the_attempt() -> None:
    outcomes: list[str] = []

    class Slow(Middleware):
        async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
            await asyncio.sleep(60)
            try:
                result = await call_next()
            except Exception as error:
                outcomes.append(type(error).__name__)
                raise
            outcomes.append("completed")
            return result

    async def main(sim: Simulation) -> None:
        assert await sim.client.new_workflow(Letter).sleep(4.0) == "attempt 0"
        with pytest.raises(WorkflowFailedError, match="AttemptTimedOut"):
            await sim.client.new_workflow(Letter).sleep(6.0)

    play(main, Slow())
    assert outcomes == ["completed", "AttemptTimedOut", "AttemptTimedOut"]


def test_a_cancelled_attempt_is_cancelled_in_its_middleware_too() -> None:
    ended: list[str] = []

    class Waiting(Middleware):
        async def execute_task(self, context: TaskContext, call_next: CallNext) -> Any:
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise
            return await call_next()

    async def main(sim: Simulation) -> None:
        handle = await sim.client.dispatch(sim.client.new_workflow(Letter).say, "hi")
        await sim.sleep(1)
        await sim.client.cancel(handle, confirm=True)
        await sim.sleep(1)
        assert ended == ["cancelled"]

    play(main, Waiting())


@service
class Approvals:
    @task(delegated=True)
    async def ask(self, what: str) -> str:
        raise NotImplementedError


class Signed(Approvals):
    def __init__(self) -> None:
        self.tokens: list[str] = []

    async def ask(self, what: str) -> str:
        self.tokens.append(task_context().delegation_token)
        return ""


class Deal(Workflow):
    approvals = Workflow.new_service(Approvals)
    desk = Workflow.new_service(Desk)

    async def sign(self, what: str) -> str:
        return await self.approvals.ask(what)

    async def go_on(self, runs: int) -> str:
        if runs:
            self.continue_as_new(self.go_on, runs - 1)
        return await self.desk.say("hi")


def test_who_completes_a_delegated_task_goes_through_the_middlewares() -> None:
    """S8: the middlewares of the task stand around the call that begins the work."""
    seen = Seen()

    async def main(sim: Simulation) -> str:
        signed = Signed()
        sim.add_service(signed)
        sim.add_workflow(Deal)
        handle = await sim.client.dispatch(sim.client.new_workflow(Deal).sign, "a deal")
        await sim.run_until_idle()
        (token,) = signed.tokens
        await sim.client.complete_delegated_task(token, "yes", contract=Approvals)
        assert [call[3:5] for call in seen.calls if call[0] == "complete_delegated_task"] == [
            ((token, "yes"), {"contract": Approvals})
        ]
        return await handle.result()

    assert play(main, seen) == "yes"
    assert [context.args for context in seen.tasks] == [("a deal",)]


@pytest.mark.parametrize("cache_size", [1000, 0])
def test_carried_meta_goes_on_into_the_next_run(cache_size: int) -> None:
    """S20."""

    async def main(sim: Simulation) -> str:
        sim.add_workflow(Deal)
        tenant.set("ada")
        return await sim.client.new_workflow(Deal).go_on(2)

    assert play(main, Tenant(), cache_size=cache_size) == "hi for ada"


@pytest.mark.infinitic(seeds=25, middleware=[Tenant(), Tracer("a", [])])
async def test_under_faults_every_task_has_the_tenant_of_its_caller(sim: Simulation) -> None:
    """Two workers, split and fused, without a cache: what is carried is in the history."""
    sim.add_service(Desk())
    sim.add_workflow(Letter)
    sim.add_workflow(Envelope)

    async def send(name: str) -> str:
        tenant.set(name)
        return await sim.client.new_workflow(Envelope).send("hi")

    names = [f"tenant {number}" for number in range(6)]
    answers = await asyncio.gather(*(send(name) for name in names))
    assert answers == [f"hi for {name}" for name in names]
