"""The tags of the in-memory storage: dictionaries, which are gone with the process.

To add or remove a member costs the same however many there are. A page costs what it holds, but the
first one after new members puts these into their order.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from heapq import heappop, heappush

import msgspec

from infinitic.storage import Claim, TagChange, TagKey, TagStorage
from infinitic.storage.checks import check_purge
from infinitic.storage.tag_rules import (
    StoredMember,
    check_claim,
    check_members,
    check_tag_changes,
    check_tag_key,
    compute_expiry,
    decide_claim,
    is_newer,
)


class _Member(msgspec.Struct, eq=False):
    """What is kept of a member."""

    tag: _Tag
    id: str
    version: int
    live: bool
    at: float
    expires_at: float | None
    holder: str | None = None


class _Tag:
    """What is kept of a tag.

    Attributes:
        key: its key.
        members: by their ids, also the removed ones.
        live: how many members are live.
        holder: the live member, of a custom id.
    """

    __slots__ = ("_new", "_order", "holder", "key", "live", "members")

    def __init__(self, key: TagKey) -> None:
        self.key = key
        self.members: dict[str, _Member] = {}
        self.live = 0
        self.holder: str | None = None
        # Ids in order. Those of members that were purged stay until they are the half.
        self._order: list[str] = []
        self._new: list[str] = []

    def add(self, member: _Member) -> None:
        """Add a member that was not there."""
        self.members[member.id] = member
        self._new.append(member.id)

    def list_from(self, after: str) -> tuple[list[str], int]:
        """All ids in order, and the place of the first one after `after`.

        The order of text by code points is that of its UTF-8 by bytes.
        """
        if self._new:
            self._order += self._new
            self._order.sort()
            self._new.clear()
        if len(self._order) > 2 * len(self.members):
            self._order = sorted(self.members)
        return self._order, bisect_right(self._order, after)


class TagDatabase:
    """The data, and the methods of `TagStorage`, each as one uninterrupted step.

    Args:
        deduplication_window: seconds for which removed members are remembered.
    """

    def __init__(self, deduplication_window: float) -> None:
        self.deduplication_window = deduplication_window
        self._tags: dict[TagKey, _Tag] = {}
        # A heap of members that expire. The number makes its items differ.
        self._expiring: list[tuple[float, int, _Member]] = []
        self._serial = 0

    def clear(self) -> None:
        """Forget everything."""
        self._tags.clear()
        self._expiring.clear()

    def list_keys(self) -> list[TagKey]:
        """The tags that something is kept of, in the order of their first member."""
        return list(self._tags)

    def update(self, changes: Sequence[TagChange]) -> None:
        """Add and remove members, see `TagStorage.update`."""
        check_tag_changes(changes)
        for change in changes:
            tag = self._tags.get(change.key)
            known = None if tag is None else tag.members.get(change.id)
            if known is None or is_newer(change, known.version, known.live):
                stored = StoredMember(change.version, change.live)
                expires_at = compute_expiry(change, self.deduplication_window)
                self._write(change.key, change.id, stored, change.at, expires_at)

    def members(self, key: TagKey, *, until: float | None, after: str, limit: int) -> list[str]:
        """Read a page of live members, see `TagStorage.members`."""
        check_members(key, until, after, limit)
        tag = self._tags.get(key)
        if tag is None:
            return []
        found: list[str] = []
        ids, place = tag.list_from(after)
        previous = after
        while place < len(ids) and len(found) < limit:
            id, place = ids[place], place + 1
            member = tag.members.get(id)
            if id != previous and member is not None and member.live and (until is None or member.at <= until):
                found.append(id)
            # One that was purged and added again is there twice.
            previous = id
        return found

    def count(self, key: TagKey) -> int:
        """Count live members, see `TagStorage.count`."""
        check_tag_key(key)
        tag = self._tags.get(key)
        return 0 if tag is None else tag.live

    def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        """Claim a custom id, see `TagStorage.claim`."""
        check_claim(key, id, version, at)
        tag = self._tags.get(key)
        own = None if tag is None else tag.members.get(id)
        stored = None if own is None else StoredMember(own.version, own.live, own.holder)
        decision = decide_claim(id, version, stored, None if tag is None else tag.holder)
        if decision.write is not None:
            expires_at = None if decision.write.live else at + self.deduplication_window
            self._write(key, id, decision.write, at, expires_at)
        return decision.claim

    def purge(self, now: float, limit: int) -> int:
        """Remove what has expired, see `TagStorage.purge`."""
        check_purge(now, limit)
        gone = 0
        while gone < limit and self._expiring and self._expiring[0][0] <= now:
            due, _, member = heappop(self._expiring)
            tag = member.tag
            # Otherwise it was told to stay since, or has gone already.
            if member.expires_at == due and tag.members.get(member.id) is member:
                gone += 1
                self._leave(member)
                del tag.members[member.id]
                if not tag.members:
                    del self._tags[tag.key]
        return gone

    def _write(self, key: TagKey, id: str, stored: StoredMember, at: float, expires_at: float | None) -> None:
        tag = self._tags.get(key)
        if tag is None:
            tag = self._tags[key] = _Tag(key)
        member = tag.members.get(id)
        if member is None:
            member = _Member(tag, id, stored.version, stored.live, at, expires_at, stored.holder)
            tag.add(member)
        else:
            self._leave(member)
            member.version, member.live, member.holder = stored
            member.at, member.expires_at = at, expires_at
        if stored.live:
            tag.live += 1
            tag.holder = id
        if expires_at is not None:
            self._serial += 1
            heappush(self._expiring, (expires_at, self._serial, member))

    @staticmethod
    def _leave(member: _Member) -> None:
        """A member is live no more, or is about to be written again."""
        if member.live:
            member.tag.live -= 1
            if member.tag.holder == member.id:
                member.tag.holder = None


class InMemoryTags(TagStorage):
    """The methods of a connection. None of them suspends.

    Args:
        find_data: returns the data, or raises `StorageClosed`.
    """

    __slots__ = ("_find_data",)

    def __init__(self, find_data: Callable[[], TagDatabase]) -> None:
        self._find_data = find_data

    async def update(self, changes: Sequence[TagChange]) -> None:
        self._find_data().update(changes)

    async def members(
        self, key: TagKey, *, until: float | None = None, after: str = "", limit: int = 1000
    ) -> list[str]:
        return self._find_data().members(key, until=until, after=after, limit=limit)

    async def count(self, key: TagKey) -> int:
        return self._find_data().count(key)

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        return self._find_data().claim(key, id, version, at)

    async def purge(self, now: float, limit: int = 1000) -> int:
        return self._find_data().purge(now, limit)
