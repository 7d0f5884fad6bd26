"""What the shelf holds of tags, in memory. Nothing here touches the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from itertools import islice

import msgspec

from infinitic.storage import Claim, TagChange, TagKey
from infinitic.storage.tag_rules import StoredMember, compute_expiry, decide_claim, is_newer, keep_newest


class Member(msgspec.Struct, frozen=True):
    """What is kept of a member, also of a removed one."""

    key: TagKey
    id: str
    version: int
    live: bool
    at: float
    expires_at: float | None = None
    holder: str | None = None


class Members:
    """Every member. Looking and deciding change nothing; only `write` and `remove` do.

    The order of text by code points, as Python compares it, is that of its UTF-8 by bytes.
    """

    def __init__(self) -> None:
        self._tags: dict[TagKey, dict[str, Member]] = {}

    def update(self, changes: Sequence[TagChange], deduplication_window: float) -> list[Member]:
        """Of these changes, what is to be written."""
        written: list[Member] = []
        for key, members in keep_newest(changes).items():
            for id, change in members.items():
                known = self._tags.get(key, {}).get(id)
                if known is None or is_newer(change, known.version, known.live):
                    expires_at = compute_expiry(change, deduplication_window)
                    written.append(Member(key, id, change.version, change.live, change.at, expires_at))
        return written

    def claim(
        self, key: TagKey, id: str, version: int, at: float, deduplication_window: float
    ) -> tuple[Claim, list[Member]]:
        """What becomes of a claim, and what is to be written."""
        known = self._tags.get(key, {}).get(id)
        own = None if known is None else StoredMember(known.version, known.live, known.holder)
        claim, write = decide_claim(id, version, own, next(iter(self._list_live(key)), None))
        if write is None:
            return claim, []
        expires_at = None if write.live else at + deduplication_window
        return claim, [Member(key, id, write.version, write.live, at, expires_at, write.holder)]

    def members(self, key: TagKey, until: float | None, after: str, limit: int) -> list[str]:
        """A page of live members."""
        return nsmallest(limit, (id for id in self._list_live(key, until) if id > after))

    def count(self, key: TagKey) -> int:
        return sum(1 for _ in self._list_live(key))

    def list_expired(self, now: float, limit: int) -> list[tuple[TagKey, str]]:
        """What may go."""
        every = (member for members in self._tags.values() for member in members.values())
        due = ((each.key, each.id) for each in every if each.expires_at is not None and each.expires_at <= now)
        return list(islice(due, limit))

    def list_all(self) -> list[Member]:
        return [member for members in self._tags.values() for member in members.values()]

    def write(self, members: Iterable[Member]) -> None:
        for each in members:
            self._tags.setdefault(each.key, {})[each.id] = each

    def remove(self, members: Iterable[tuple[TagKey, str]]) -> None:
        for key, id in members:
            del self._tags[key][id]
            if not self._tags[key]:
                del self._tags[key]

    def _list_live(self, key: TagKey, until: float | None = None) -> Iterable[str]:
        members = self._tags.get(key, {}).values()
        return (each.id for each in members if each.live and (until is None or each.at <= until))
