"""Which queries a step answers, and which wait for the next one."""

from __future__ import annotations

import asyncio

from msgspec import Raw
from msgspec.structs import replace

from infinitic import Workflow, query
from infinitic.definitions.workflow_spec import spec_of
from infinitic.engines.state import Method, WorkflowHead
from infinitic.engines.workflow.transition import Transition
from infinitic.messages import client, engine, events
from infinitic.replay.instance import Instance
from infinitic.runtime.lane import Lane
from infinitic.runtime.state_engine.asking import answer_queries
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.closing import DecidedStep
from infinitic.runtime.state_engine.inputs import Draft, TakenInputs
from infinitic.storage import Change, StateKey
from infinitic.transport import Delivery, Message
from infinitic_storages.memory import InMemoryStorage


class Trip(Workflow):
    async def run(self) -> None: ...

    @query
    def read(self) -> int:
        return 7


KEY = StateKey("Trip", "t1")
HEAD = WorkflowHead(schema=2, id="t1", name="Trip", started_at=0.0, methods=(Method("t1", "run"),), activation=5)
QUERY = engine.AskQuery(made_at=0.0, query="read", arguments=Raw(b"[]"), reply_to=client.ReplyTo("client", "1"))


def take_decision(live: Instance | None) -> DecidedStep:
    """A step that takes a decision of another worker, which has asked for nothing, and a query."""
    before, after = replace(HEAD, deciding=4), HEAD
    draft = Draft(after, [], [])
    asked = (Delivery(Message("asked", "t1", b"{}"), 1, 0.0), QUERY)
    inputs = TakenInputs([], [], draft, draft, (), (), (), (), 0.0, None, looks_back=False, questions=(asked,))
    instance = CachedInstance(KEY, before, 1, published=True)
    instance.live = live
    change = Change(KEY, 1, 2, b"", 0.0)
    return DecidedStep(Lane("t1"), instance, 0, inputs, draft, Transition(after, [], [], None, None), change, [], 0)


def answer(step: DecidedStep) -> DecidedStep:
    return asyncio.run(
        answer_queries(step, spec_of(Trip), InMemoryStorage().states, 0.0, 1_000_000, undone=False),
    )


def test_a_query_waits_until_the_decision_beside_it_is_in_the_history() -> None:
    """A replay would answer without what that decision has seen (S26)."""
    step = take_decision(None)
    assert answer(step) is step
    assert step.instance.live is None


def test_a_live_object_that_has_run_the_activation_answers_beside_the_decision() -> None:
    live = Instance(spec_of(Trip), "t1", {}, 0)
    live.activate(0.0, [events.MethodStarted("t1", "run", Raw(b"[]"))])
    answered = answer(take_decision(live))
    live.close()
    [sent] = answered.outgoing
    assert client.decode(sent.message.body) == client.Queried("1", Raw(b"7"), 5, 0)
