"""Bugs of tags and custom ids: tags that stay, two holders, messages by tag that are lost."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from itertools import count
from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from infinitic.messages import engine, tags as messages
from infinitic.runtime import publisher
from infinitic.runtime.tag_engine.base import Taken
from infinitic.runtime.tag_engine.engine import WorkflowTagEngine
from infinitic.runtime.tag_engine.fan_out import FanOut
from infinitic.storage import Claim
from infinitic_storages.memory_tags import InMemoryTags
from tests.simulation.planted.planting import Part, Planter, bug

TAGS = "tags"
_TAGS_OF_INSTANCES = import_module("infinitic.engines.workflow.tags")


@bug(TAGS)
def tags_stay(planter: Planter) -> None:
    """An instance that closes keeps its tags."""

    @planter.wrap(_TAGS_OF_INSTANCES, "render_tags")
    def render_tags(original: Part, effect: Any, *args: Any) -> Any:
        return [each for each in original(effect, *args) if effect.live or each.message.key.startswith("c:")]

    planter.put(import_module("infinitic.engines.workflow.render"), "render_tags", _TAGS_OF_INSTANCES.render_tags)


@bug(TAGS)
def custom_id_never_freed(planter: Planter) -> None:
    """An instance that closes keeps its custom id."""

    @planter.wrap(_TAGS_OF_INSTANCES, "render_tags")
    def render_tags(original: Part, effect: Any, *args: Any) -> Any:
        return [each for each in original(effect, *args) if each.message.key.startswith("t:")]

    planter.put(import_module("infinitic.engines.workflow.render"), "render_tags", _TAGS_OF_INSTANCES.render_tags)


@bug(TAGS)
def custom_id_freed_too_early(planter: Planter) -> None:
    """A custom id is free once its instance has started."""

    @planter.wrap(_TAGS_OF_INSTANCES, "add_tags")
    def add_tags(original: Part, head: Any) -> Any:
        return (*original(head), *_TAGS_OF_INSTANCES.remove_tags(head)) if head.unique else original(head)

    planter.put(import_module("infinitic.engines.workflow.take"), "add_tags", _TAGS_OF_INSTANCES.add_tags)


@bug(TAGS)
def claim_ignored(planter: Planter) -> None:
    """A start with a custom id starts an instance, whoever holds the custom id."""

    @planter.wrap(InMemoryTags, "claim")
    async def claim(original: Part, self: Any, key: Any, id: str, version: int, at: float) -> Claim:
        await original(self, key, id, version, at)
        return Claim(id, True)


@bug(TAGS)
def claim_forgotten(planter: Planter) -> None:
    """A claim is not stored: who comes next gets the custom id, too."""

    async def claim(self: Any, key: Any, id: str, version: int, at: float) -> Claim:
        found = await self.members(key, limit=1)
        return Claim(found[0], False) if found else Claim(id, True)

    planter.put(InMemoryTags, "claim", claim)


@bug(TAGS)
def answer_before_freeing(planter: Planter) -> None:
    """The result of an instance is told before its custom id is freed."""

    def find_turn(topic: Any, **_: Any) -> int:
        return 0 if topic.name.startswith("client:") else 1

    planter.put(publisher, "_find_turn", find_turn)


@bug(TAGS)
def answer_beside_freeing(planter: Planter) -> None:
    """The result of an instance is told while its custom id is being freed."""

    def find_turn(topic: Any, **_: Any) -> int:
        return 1

    planter.put(publisher, "_find_turn", find_turn)


@bug(TAGS)
def late_tag_wins(planter: Planter) -> None:
    """A tag that is added late wins over its removal."""

    def version_removed(epoch: int) -> int:
        return messages.ADDED_BY_CLIENT

    planter.put(_TAGS_OF_INSTANCES, "version_removed", version_removed)


@bug(TAGS)
def next_page_forgotten(planter: Planter) -> None:
    """A message by tag reaches the first page of instances only."""

    @planter.wrap(FanOut, "make_page")
    async def make_page(original: Part, self: Any, *args: Any) -> Any:
        return [each for each in await original(self, *args) if each.topic.name.startswith("workflow-engine:")]


@bug(TAGS)
def message_by_tag_marked_again(planter: Planter) -> None:
    """A page that is sent twice has other deduplication ids the second time."""
    numbers = count(1)

    @planter.wrap(FanOut, "make_page")
    async def make_page(original: Part, self: Any, storage: Any, key: Any, delivery: Any, message: Any) -> Any:
        decoded = engine.decode(bytes(message.input))
        if isinstance(decoded, engine.Signal):
            decoded = replace(decoded, signal_id=f"signal-{next(numbers)}")
        elif isinstance(decoded, engine.CallMethod):
            decoded = replace(decoded, method_id=f"call-{next(numbers)}")
        return await original(self, storage, key, delivery, replace(message, input=Raw(engine.encode(decoded))))


@bug(TAGS)
def change_of_tag_acked_before_write(planter: Planter) -> None:
    """Changes of tags are acknowledged before they are written."""

    @planter.wrap(WorkflowTagEngine, "_write")
    async def write(original: Part, self: Any, taken: Sequence[Any]) -> None:
        await self._subscription.ack([delivery for each in taken for delivery in each.deliveries])
        await original(self, taken)


@bug(TAGS)
def failed_change_of_tag_acked(planter: Planter) -> None:
    """Changes of tags that cannot be written are acknowledged all the same."""

    @planter.wrap(WorkflowTagEngine, "_write")
    async def write(original: Part, self: Any, taken: Sequence[Any]) -> None:
        await original(self, taken)
        for each in taken:
            if each.lane.failed:
                each.lane.failed = False
                await self._subscription.ack(each.deliveries)
                each.lane.settle(each.deliveries)


@bug(TAGS)
def unique_start_acked_before_publish(planter: Planter) -> None:
    """A start with a custom id is acknowledged before the start of the instance is published."""

    @planter.wrap(WorkflowTagEngine, "_do")
    async def do(original: Part, self: Any, taken: Any) -> None:
        await self._subscription.ack(taken.deliveries)
        await original(self, taken)


@bug(TAGS)
def removal_folded_away(planter: Planter) -> None:
    """Of several changes in one batch, the first one of an instance is written."""

    @planter.wrap(WorkflowTagEngine, "_take")
    async def take(original: Part, self: Any, lane: Any) -> Any:
        taken = await original(self, lane)
        if taken is not None and taken.message is None:
            first = {change.id: change for change in reversed(taken.changes)}
            taken = Taken[Any](taken.lane, taken.deliveries, taken.key, list(first.values()), None)
        return taken
