"""The methods of tags and custom ids of the Redis storage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from infinitic.storage import Claim, TagChange, TagKey, TagStorage
from infinitic.storage.checks import check_purge
from infinitic.storage.tag_rules import (
    check_claim,
    check_members,
    check_tag_changes,
    check_tag_key,
    compute_expiry,
    keep_newest,
)
from infinitic_storages.redis import tag_scripts
from infinitic_storages.redis.connections import Argument, Connections, Script
from infinitic_storages.redis.keys import encode_number, encode_tag_key

CHUNK = 500
"""How many members one script writes, reads or removes at most, so that others do not wait long."""

_UPDATE = Script(tag_scripts.UPDATE)
_CLAIM = Script(tag_scripts.CLAIM)
_MEMBERS = Script(tag_scripts.MEMBERS)
_PURGE = Script(tag_scripts.PURGE)


class RedisTags(TagStorage):
    """Tags in one Redis database, behind one prefix.

    Args:
        connections: to the server.
        prefix: what all keys begin with.
        deduplication_window: seconds for which removed members are remembered.
    """

    __slots__ = ("_connections", "_deduplication_window", "_prefix")

    def __init__(self, connections: Connections, prefix: str, deduplication_window: float) -> None:
        self._connections = connections
        self._prefix = f"{prefix}|".encode()
        self._deduplication_window = deduplication_window

    async def update(self, changes: Sequence[TagChange]) -> None:
        self._connections.check_open()
        check_tag_changes(changes)
        calls: list[tuple[Argument, ...]] = []
        for key, members in keep_newest(changes).items():
            encoded, rest = encode_tag_key(key), list(members.values())
            for start in range(0, len(rest), CHUNK):
                calls.append((self._prefix, encoded, *self._encode_members(rest[start : start + CHUNK])))
        if calls:
            await self._connections.call(_UPDATE, calls, writing=True)

    async def members(
        self, key: TagKey, *, until: float | None = None, after: str = "", limit: int = 1000
    ) -> list[str]:
        self._connections.check_open()
        check_members(key, until, after, limit)
        encoded = encode_tag_key(key)
        found: list[str] = []
        last: bytes = after.encode()
        while len(found) < limit:
            chunk = min(CHUNK, limit - len(found)) if until is None else CHUNK
            arguments: tuple[Argument, ...] = (self._prefix, encoded, last, encode_number(until), str(chunk))
            ((count, last, *ids),) = await self._connections.call(_MEMBERS, [arguments])
            found += [id.decode() for id in ids]
            if count < chunk:
                break
        return found[:limit]

    async def count(self, key: TagKey) -> int:
        self._connections.check_open()
        check_tag_key(key)
        (counted,) = await self._connections.ask([("ZCOUNT", self._prefix + b"l|" + encode_tag_key(key), "0", "0")])
        return int(counted)

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        self._connections.check_open()
        check_claim(key, id, version, at)
        arguments: tuple[Argument, ...] = (
            self._prefix,
            encode_tag_key(key),
            id.encode(),
            str(version),
            encode_number(at),
            encode_number(at + self._deduplication_window),
        )
        ((granted, holder),) = await self._connections.call(_CLAIM, [arguments], writing=True)
        return Claim(holder.decode(), granted == 1)

    async def purge(self, now: float, limit: int = 1000) -> int:
        self._connections.check_open()
        check_purge(now, limit)
        gone = 0
        while gone < limit:
            chunk = min(CHUNK, limit - gone)
            removed: Any
            (removed,) = await self._connections.call(_PURGE, [(self._prefix, encode_number(now), str(chunk))])
            gone += removed
            if removed < chunk:
                break
        return gone

    def _encode_members(self, changes: Sequence[TagChange]) -> list[Argument]:
        arguments: list[Argument] = []
        for change in changes:
            expires_at = compute_expiry(change, self._deduplication_window)
            arguments += (
                change.id.encode(),
                "1" if change.live else "0",
                str(change.version),
                encode_number(change.at),
                encode_number(expires_at),
            )
        return arguments
