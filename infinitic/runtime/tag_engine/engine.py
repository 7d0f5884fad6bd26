"""The tag engine of one workflow: who has a tag, messages to all of them, and custom ids."""

from __future__ import annotations

from infinitic import topics
from infinitic.clock import Clock
from infinitic.engines.workflow.claimed_starts import count_claims, note_claim
from infinitic.messages import tags
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.tags import (
    AddTag,
    ByTag,
    CancelUnique,
    ClaimAgain,
    GetIds,
    Reclaim,
    RemoveTag,
    StartUnique,
    TagMessage,
    ToHolder,
)
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.tag_engine.answers import answer_ids
from infinitic.runtime.tag_engine.base import TagEngine
from infinitic.runtime.tag_engine.claims import claim_again, give_back, reclaim, start_unique
from infinitic.runtime.tag_engine.fan_out import FanOut
from infinitic.runtime.tag_engine.forwarding import HolderMessages, cancel_unique
from infinitic.runtime.tag_engine.older_children import wait_for_older_child
from infinitic.storage import Storage, TagChange, TagKey, TagKind
from infinitic.transport import Delivery, Outgoing


class WorkflowTagEngine(TagEngine[TagMessage]):
    """Handles the tags and custom ids of one workflow.

    Args:
        name: the workflow.
        publisher: sends messages.
        storage: where members of tags are.
        clock: the time of day.
        concurrency: how many tags are worked on at once.
        buffer_bytes: how many bytes of messages are held in memory.
    """

    def __init__(
        self,
        name: str,
        publisher: Publisher,
        storage: Storage,
        clock: Clock,
        *,
        concurrency: int,
        buffer_bytes: int,
    ) -> None:
        topic = topics.workflow_tag(name)
        super().__init__(name, topic, publisher, storage, clock, concurrency=concurrency, buffer_bytes=buffer_bytes)
        self._fan_out = FanOut(name)
        self._holders = HolderMessages()

    def _decode(self, body: bytes) -> TagMessage:
        decoded: TagMessage = tags.decode(body)
        return decoded

    def _read_key(self, key: str | None) -> TagKey:
        read = tags.read_key(key)
        return TagKey(TagKind.CUSTOM_ID if read.unique else TagKind.WORKFLOW, self.name, read.name)

    def _make_change(self, key: TagKey, message: TagMessage) -> TagChange | None:
        match message:
            case AddTag():
                if key.kind is TagKind.CUSTOM_ID:
                    raise UndecodableMessage("A custom id has no other members than its holder")
                self._check_age(message.made_at)
                return TagChange(key, message.id, True, message.version, message.made_at)
            case RemoveTag():
                return TagChange(key, message.id, False, message.version, message.made_at)
            case ByTag() | StartUnique() | Reclaim() | ToHolder() | CancelUnique() | ClaimAgain():
                if not isinstance(message, ByTag) and key.kind is not TagKind.CUSTOM_ID:
                    raise UndecodableMessage("A tag may have many members: only a custom id can be claimed")
                self._check_age(message.made_at)
                return None
            case GetIds():
                return None

    async def _make_outgoing(self, key: TagKey, delivery: Delivery, message: TagMessage) -> list[Outgoing]:
        storage = self._storage.tags
        match message:
            case ByTag():
                return await self._fan_out.make_page(storage, key, delivery, message)
            case GetIds():
                largest = self._publisher.transport.capabilities.max_payload
                return [await answer_ids(storage, key, message, largest)]
            case StartUnique():
                now, sent = self._clock.now(), delivery.message
                later = await wait_for_older_child(storage, key, sent, message, now)
                if later is not None:
                    return [later]
                return await start_unique(storage, key, message, note_claim(now, count_claims(sent.headers)))
            case Reclaim():
                return await reclaim(storage, key, message, note_claim(self._clock.now(), 0))
            case ToHolder():
                return await self._holders.send(storage, key, message)
            case ClaimAgain():
                return await claim_again(storage, key, message)
            case CancelUnique():
                return [cancel_unique(key, message)]
            case AddTag() | RemoveTag():
                raise AssertionError(f"{message} is a change")

    def _note_done(self, message: TagMessage) -> None:
        if isinstance(message, ByTag):
            self._fan_out.note_done(message)

    def _make_amends(self, delivery: Delivery, reason: str) -> list[Outgoing]:
        try:
            key, message = self._read_key(delivery.message.key), self._decode(delivery.message.body)
        except UndecodableMessage:
            return []
        return give_back(key, message, reason) if isinstance(message, ClaimAgain) else []
