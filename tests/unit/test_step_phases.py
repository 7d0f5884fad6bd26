"""What goes on to the next phase of a step, and what does not."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from infinitic import topics
from infinitic.clock import SystemClock
from infinitic.errors import TransportError
from infinitic.runtime.lane import Lane
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.closing import DecidedStep
from infinitic.runtime.state_engine.committing import CommittedSteps, Repeats
from infinitic.runtime.state_engine.inputs import Draft, TakenInputs
from infinitic.runtime.state_engine.publishing import PublishedSteps, Publishing
from infinitic.storage import StateKey
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message, Outgoing
from infinitic_transports.memory import InMemoryTransport

ENGINE = topics.workflow_engine("Trip")
SERVICE = topics.service_executor("Flights")


class Refusing(InMemoryTransport):
    """Refuses messages with the id "bad", and notes the others."""

    def __init__(self) -> None:
        super().__init__()
        self.published: list[str] = []

    async def publish(self, topic: Topic, messages: Sequence[Message]) -> None:
        ids = [message.id for message in messages]
        if "bad" in ids:
            raise TransportError("refused")
        self.published += ids
        await super().publish(topic, messages)


def make_outgoing(*ids: str) -> list[Outgoing]:
    return [Outgoing(SERVICE, Message(each, None, b"{}")) for each in ids]


def make_step(workflow_id: str, *ids: str, dead: str = "") -> DecidedStep:
    delivery = Delivery(Message("in", workflow_id, b"{}"), 1, 0.0)
    draft = Draft(None, [], [])
    letters = ((delivery, dead),) if dead else ()
    inputs = TakenInputs([delivery], [], draft, None, (), (), letters, (), 0.0, None, looks_back=False)
    instance = CachedInstance(StateKey("Trip", workflow_id), None, None, published=True)
    lane = Lane(workflow_id, waiting=[delivery])
    return DecidedStep(lane, instance, 0, inputs, draft, None, None, make_outgoing(*ids), 0)


def publish(committed: CommittedSteps) -> tuple[PublishedSteps, list[str]]:
    async def main() -> tuple[PublishedSteps, list[str]]:
        async with Refusing() as transport:
            publishing = Publishing("Trip", ENGINE, Publisher(transport), SystemClock())
            return await publishing.publish(committed), transport.published

    return asyncio.run(main())


def test_steps_are_published_together() -> None:
    first, second = make_step("1", "a"), make_step("2", "b", "c")
    published, sent = publish(CommittedSteps([first, second]))
    assert list(published.steps) == [first, second]
    assert sent == ["a", "b", "c"]


def test_a_step_that_the_broker_refuses_is_not_settled_and_the_others_are() -> None:
    bad, good = make_step("1", "bad"), make_step("2", "b")
    published, sent = publish(CommittedSteps([bad, good]))
    assert list(published.steps) == [good]
    assert sent == ["b"]
    assert bad.lane.failed
    assert not good.lane.failed


def test_dead_letters_go_behind_what_the_step_sends() -> None:
    step = make_step("1", "a", dead="no input")
    published, sent = publish(CommittedSteps([step]))
    assert list(published.steps) == [step]
    assert sent == ["a", "in"]


def test_a_repeat_whose_answer_is_refused_is_not_settled() -> None:
    good, lanes = make_step("1", "a"), [Lane("2"), Lane("3")]
    repeats = [Repeats(lanes[0], [], make_outgoing("bad")), Repeats(lanes[1], [], make_outgoing("again"))]
    published, sent = publish(CommittedSteps([good], repeats))
    assert list(published.steps) == [good]
    assert list(published.repeats) == [repeats[1]]
    assert sent == ["a", "again"]
    assert [lane.failed for lane in lanes] == [True, False]
