"""The methods of the Redis storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import msgspec

from infinitic.storage import (
    Change,
    Duplicate,
    Lost,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StateKey,
    StateStorage,
    Stored,
    WorkflowStatus,
    Written,
)
from infinitic.storage.checks import (
    check_changes,
    check_history,
    check_purge,
    refuse_key,
    refuse_segment,
    refuse_version,
)
from infinitic_storages.redis import scripts
from infinitic_storages.redis.connections import Argument, Connections, Script
from infinitic_storages.redis.find import Finder
from infinitic_storages.redis.keys import encode_deduplication_id, encode_key, encode_number

if TYPE_CHECKING:
    from infinitic_storages.redis.settings import RedisSettings

CHUNK = 200
"""How much one step of a purge removes at most, so that other calls do not wait long."""

GONE = "it is missing"

_COMMIT = Script(scripts.COMMIT)
_PUBLISHED = Script(scripts.PUBLISHED)
_HISTORY = Script(scripts.HISTORY)
_PURGE = Script(scripts.PURGE)

_encode = msgspec.msgpack.Encoder().encode


class RedisStates(StateStorage):
    """States and histories in one Redis database, behind one prefix."""

    __slots__ = ("_connections", "_deduplication_window", "_finder", "_limit", "_prefix")

    def __init__(self, connections: Connections, settings: RedisSettings, deduplication_window: float) -> None:
        self._connections = connections
        self._prefix = f"{settings.key_prefix}|".encode()
        self._deduplication_window = deduplication_window
        self._limit = settings.max_value
        self._finder = Finder(connections, self._prefix)

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        members = {key: member for key in keys if (member := encode_key(key)) is not None}
        if not members:
            self._connections.check_open()
            return {}
        rows = await self._connections.ask(
            [("HMGET", self._prefix + b"s|" + member, "v", "h", "q", "p") for member in members.values()]
        )
        return {
            key: Stored(int(version), head or b"", int(sequence), published == b"1", "" if head is not None else GONE)
            for key, (version, head, sequence, published) in zip(members, rows, strict=True)
            if sequence is not None
        }

    async def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        self._connections.check_open()
        check_history(after, limit, sequences)
        member = encode_key(key)
        wanted = sorted({each for each in sequences or () if each > 0})
        if member is None or (limit < 1 if sequences is None else not wanted):
            return []
        first, count = (str(max(after, 0)), str(limit)) if sequences is None else ("", "")
        arguments: tuple[Argument, ...] = (self._prefix, member, _encode_flag(outbox), first, count, *map(str, wanted))
        ((found, events, outboxes),) = await self._connections.call(_HISTORY, [arguments])
        return [
            Segment(int(sequence), event, outboxes[index] if outbox else None)
            for index, (sequence, event) in enumerate(zip(found, events, strict=True))
            if event is not None
        ]

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        self._connections.check_open()
        check_changes(changes, self._limit)
        outcomes: list[Outcome | None] = [None] * len(changes)
        calls: list[tuple[Script, tuple[Argument, ...]]] = []
        asked: list[int] = []
        for index, change in enumerate(changes):
            member = encode_key(change.key)
            if member is None:
                outcomes[index] = _decide_impossible(change)
                continue
            asked.append(index)
            if isinstance(change, Published):
                calls.append((_PUBLISHED, (self._prefix, member, str(change.version))))
            else:
                calls.append((_COMMIT, self._arguments(change, member)))
        if calls:
            replies = await self._connections.evaluate(calls, writing=True)
            for index, reply in zip(asked, replies, strict=True):
                outcomes[index] = _decode_outcome(changes[index], reply)
        return [outcome for outcome in outcomes if outcome is not None]

    async def find(self, query: Query) -> Page:
        self._connections.check_open()
        return await self._finder.find(query)

    async def count(self, query: Query) -> int:
        self._connections.check_open()
        return await self._finder.count(query)

    async def purge(self, now: float, limit: int = 1000) -> int:
        self._connections.check_open()
        check_purge(now, limit)
        remnants = await self._purge(now, limit, remnants=True)
        return max(await self._purge(now, limit, remnants=False), limit if remnants >= limit else 0)

    async def _purge(self, now: float, limit: int, *, remnants: bool) -> int:
        gone = 0
        while gone < limit:
            chunk = min(CHUNK, limit - gone)
            chunks = (str(chunk), "0") if remnants else ("0", str(chunk))
            arguments = (self._prefix, encode_number(now), encode_number(self._deduplication_window), *chunks)
            ((remnants_gone, others_gone),) = await self._connections.call(_PURGE, [arguments])
            removed: int = remnants_gone + others_gone
            gone += removed
            if removed < chunk:
                break
        return gone

    def _arguments(self, change: Change, member: bytes) -> tuple[Argument, ...]:
        segment, entry = change.segment, change.entry
        bad = change.expected is not None and change.version <= change.expected
        outbox = None if segment is None else segment.outbox
        wake = None
        if entry is not None and entry.status is WorkflowStatus.RUNNING:
            wake = entry.next_wake
        return (
            self._prefix,
            member,
            "" if change.expected is None else str(change.expected),
            str(change.version),
            change.head,
            _encode_flag(change.published),
            encode_number(change.expires_at),
            "" if segment is None else str(segment.sequence - 1),
            "" if segment is None else str(segment.sequence),
            b"" if segment is None else segment.events,
            _encode_flag(outbox is not None),
            outbox or b"",
            _encode_flag(bad),
            "" if entry is None else entry.status.value,
            "" if entry is None else encode_number(entry.started_at),
            encode_number(wake),
            b"" if entry is None else _encode(entry),
            encode_number(change.at + self._deduplication_window),
            "" if entry is None or entry.flag is None else entry.flag.value,
            str(change.first - 1) if change.first > 1 else "",
            *[encode_deduplication_id(member, id_) for id_ in change.deduplication_ids],
        )


def _decode_outcome(change: Change | Published, reply: Any) -> Outcome:
    if reply == 0:
        return Written(change.version)
    answer = cast(list[Any], reply)
    kind, rest = answer[0], answer[1:]
    if kind == 1:
        return Lost(None if not rest or rest[0] is None else int(rest[0]))
    assert isinstance(change, Change)
    if kind == 2:
        return Duplicate(tuple(dict.fromkeys(change.deduplication_ids[int(index)] for index in rest)))
    if kind == 3:
        return refuse_version(change.version, change.expected)
    assert change.segment is not None
    return refuse_segment(change.segment.sequence, int(rest[0]))


def _decide_impossible(change: Change | Published) -> Outcome:
    """Decide the outcome of a change whose key nothing can be stored for."""
    if isinstance(change, Published) or change.expected is not None:
        return Lost(None)
    if change.segment is not None and change.segment.sequence != 1:
        return refuse_segment(change.segment.sequence, 0)
    return refuse_key()


def _encode_flag(value: bool) -> str:
    return "1" if value else "0"
