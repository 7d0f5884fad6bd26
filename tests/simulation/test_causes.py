"""The check of every publish finds a message whose cause is not in the database."""

from __future__ import annotations

from collections.abc import Iterable

from infinitic.storage import Query
from infinitic.topics import Topic
from infinitic.transport import Message
from infinitic_storages.memory import Database
from tests.simulation.cases import CASES
from tests.simulation.causes import Causes, Phantom
from tests.simulation.damages import DamagedInstance
from tests.simulation.world import World, host_engines, host_executors, run_scenario

TIMERS = next(case for case in CASES if case.name == "timers")


def find_phantoms(causes: Causes, published: Iterable[tuple[Topic, Message]]) -> set[str]:
    """Check messages, and return the kinds of topic of those without a cause."""
    found = set[str]()
    for topic, message in published:
        try:
            causes.check(topic, message)
        except Phantom:
            found.add(topic.name.partition(":")[0])
    return found


def test_a_message_without_a_cause_is_found_whatever_was_read_before() -> None:
    async def scenario(world: World) -> None:
        for _ in range(2):
            await TIMERS.scenario(world.client)
        causes = Causes(world.database)
        assert find_phantoms(causes, world.published) == set()
        everything = {"service-executor", "workflow-executor", "workflow-engine", "client"}
        assert find_phantoms(Causes(Database()), world.published) == everything
        one, other = (each.key for each in world.database.find(Query()).found)
        activations = [(topic, message) for topic, message in world.published if message.key == one.id]
        damaged = DamagedInstance(world.database, one, other)
        for how in ("all are deleted", "a bit is flipped in the first", "the content of two is swapped"):
            damaged.damage_segments(how)
            assert "workflow-executor" in find_phantoms(causes, activations), how

    run_scenario(scenario, TIMERS, host_engines, host_executors)
