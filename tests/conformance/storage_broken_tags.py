"""Mutants that break tags and custom ids."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec.structs import replace

from infinitic.storage import Claim, InvalidArgument, StorageUnavailable, TagChange, TagKey, TagKind
from infinitic_storages.memory_tags import TagDatabase
from tests.conformance.storage_sound import Server, TagLink, broken

_HIGHEST = 2**63 - 1


class _Versioned(TagLink):
    """Gives changes and claims other versions, or another time."""

    def revise(self, change: TagChange) -> TagChange:
        return change

    async def update(self, changes: Sequence[TagChange]) -> None:
        await super().update([self.revise(each) for each in changes])


@broken("TAG-1", "MODEL")
class LastWriteWins(_Versioned):
    """The change that comes last counts, whatever its version."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.turn = 0

    def revise(self, change: TagChange) -> TagChange:
        self.turn += 1
        return replace(change, version=self.turn)


@broken("TAG-1")
class FirstOfBatchWins(TagLink):
    """Of several changes of one member in a call, the first one counts."""

    async def update(self, changes: Sequence[TagChange]) -> None:
        first: dict[Any, TagChange] = {}
        for each in changes:
            first.setdefault((each.key, each.id), each)
        await super().update(list(first.values()))


@broken("TAG-1", "MODEL")
class LiveWinsTies(_Versioned):
    """Of two changes with one version, the one that adds counts."""

    def revise(self, change: TagChange) -> TagChange:
        return replace(change, version=min(change.version * 2 + change.live, _HIGHEST))


@broken("TAG-1")
class FloatVersions(_Versioned):
    """Versions lose their last digits, as in a float."""

    def revise(self, change: TagChange) -> TagChange:
        return replace(change, version=min(int(float(change.version)), _HIGHEST))


@broken("TAG-1", "TAG-6", "MODEL")
class RemovedIsForgotten(TagLink):
    """A removed member leaves nothing behind."""

    async def update(self, changes: Sequence[TagChange]) -> None:
        await super().update([each if each.live else replace(each, expires_at=-1e300) for each in changes])
        await self.inner.purge(-1e299, 1000)


@broken("TAG-1")
class DeadlockedUpdates(TagLink):
    """Updates that meet fail."""

    busy: set[int] = set()  # noqa: RUF012 (of all links)

    async def update(self, changes: Sequence[TagChange]) -> None:
        await self.pause()
        if len(changes) > 50 and id(self.server) in self.busy:
            raise StorageUnavailable("deadlock detected")
        self.busy.add(id(self.server))
        try:
            await super().update(changes)
        finally:
            self.busy.discard(id(self.server))


@broken("TAG-2")
class LookThenClaim(TagLink):
    """A claim looks who is there, and takes the custom id a moment later."""

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        live = await self.inner.members(key, limit=1)
        await self.pause()
        holder, tag = (live[0] if live else None), self.server.tags
        if holder is not None:
            return await self.inner.claim(key, id, version, at)
        others = tag.members(key, until=None, after="", limit=9)
        await self.inner.update([TagChange(key, each, False, _HIGHEST, at) for each in others if each != id])
        return await self.inner.claim(key, id, version, at)


class _Forgetful(TagDatabase):
    """Can lose the last claims that were granted."""

    def __init__(self, deduplication_window: float) -> None:
        super().__init__(deduplication_window)
        self.granted: list[TagChange] = []

    def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        claim = super().claim(key, id, version, at)
        if claim.granted:
            self.granted.append(TagChange(key, id, False, _HIGHEST, at, expires_at=-1e300))
        return claim

    def lose(self) -> None:
        self.update(self.granted[-5:])
        self.purge(-1e299, 1000)


@broken("TAG-2")
class LostClaims(Server):
    """The last claims before a crash are lost, though their callers were told."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: _Forgetful = _Forgetful(self.deduplication_window)

    def crash(self) -> None:
        super().crash()
        self.tags.lose()


@broken("TAG-2", "MODEL")
class LateRepeatClaimsAgain(TagLink):
    """Nothing is remembered of those who claimed in vain."""

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        await self.pause()
        claim = await self.inner.claim(key, id, version or 1, at)
        return claim if claim.granted or claim.id != id else await self.inner.claim(key, id, _HIGHEST, at)


@broken("TAG-2", "MODEL")
class NewestClaimWins(TagLink):
    """A claim takes the custom id from its holder."""

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        await self.pause()
        live = await self.inner.members(key, limit=9)
        await self.inner.update([TagChange(key, each, False, _HIGHEST, at) for each in live if each != id])
        return await self.inner.claim(key, id, version, at)


@broken("TAG-2", "MODEL")
class RemovedClaimsAgain(TagLink):
    """A claim of a member that was removed holds the custom id again."""

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        await self.pause()
        claim = await self.inner.claim(key, id, version, at)
        if claim == Claim(id, False):
            return Claim(id, True)
        return claim


@broken("TAG-3", "MODEL")
class EverybodyIsReached(TagLink):
    """Members that were added later are in the pages."""

    async def members(self, key: TagKey, **options: Any) -> list[str]:
        return await super().members(key, **{**options, "until": None if options.get("until") else options["until"]})


@broken("TAG-3", "MODEL")
class AddedAgainIsOld(_Versioned):
    """Who is added again counts from the first time."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.first: dict[Any, float] = {}

    def revise(self, change: TagChange) -> TagChange:
        return replace(change, at=self.first.setdefault((change.key, change.id), change.at))


@broken("TAG-3")
class FilteredPages(TagLink):
    """A page of which some were added later is short, as if it were the last one."""

    async def members(self, key: TagKey, *, until: float | None = None, **options: Any) -> list[str]:
        page = await super().members(key, until=None, **options)
        if until is None:
            return page
        return [id for id in page if await self.inner.members(key, until=until, after=id[:-1], limit=1) == [id]]


@broken("TAG-4", "MODEL")
class MembersByOffset(TagLink):
    """A page begins after as many members as there were before, whoever has gone."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.places: dict[str, int] = {}

    async def members(self, key: TagKey, *, after: str = "", limit: int = 1000, **options: Any) -> list[str]:
        every = await super().members(key, limit=100_000, **options)
        place = self.places.get(after, 0)
        page = every[place : place + limit]
        self.places.update({id: place + number + 1 for number, id in enumerate(page)})
        return page


@broken("TAG-4")
class OrderOfUtf16(TagLink):
    """Ids are in the order of UTF-16, as in some languages, and not of UTF-8."""

    async def members(self, key: TagKey, *, after: str = "", limit: int = 1000, **options: Any) -> list[str]:
        every = await super().members(key, limit=100_000, **options)
        every.sort(key=lambda id: id.encode("utf-16-be"))
        return [id for id in every if id.encode("utf-16-be") > after.encode("utf-16-be")][:limit]


@broken("TAG-5", "MODEL")
class CountsRemoved(TagLink):
    """Removed members are counted."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.counted: dict[TagKey, set[str]] = {}

    async def update(self, changes: Sequence[TagChange]) -> None:
        await super().update(changes)
        for each in changes:
            if not each.live:
                self.counted.setdefault(each.key, set()).add(each.id)

    async def count(self, key: TagKey) -> int:
        return await super().count(key) + len(self.counted.get(key, ()))


@broken("TAG-6")
class PurgeInOneGo(TagLink):
    """A purge has no bounds."""

    async def purge(self, now: float, limit: int = 1000) -> int:
        return await super().purge(now, limit) + await super().purge(now, 100_000)


@broken("TAG-6", "MODEL")
class ExpiryIsIgnored(_Versioned):
    """A member that was given an expiry stays for ever, or as long as all others."""

    def revise(self, change: TagChange) -> TagChange:
        return replace(change, expires_at=None)


@broken("TAG-6", "MODEL")
class ExpiryStays(_Versioned):
    """A member goes at the expiry that it was given first."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.first: dict[Any, float] = {}

    def revise(self, change: TagChange) -> TagChange:
        member = (change.key, change.id)
        if change.expires_at is not None:
            self.first.setdefault(member, change.expires_at)
        return replace(change, expires_at=self.first.get(member))


class _Renaming(TagLink):
    """Takes some keys for others."""

    def rename(self, key: TagKey) -> TagKey:
        raise NotImplementedError

    async def update(self, changes: Sequence[TagChange]) -> None:
        await super().update([replace(each, key=self.rename(each.key)) for each in changes])

    async def members(self, key: TagKey, **options: Any) -> list[str]:
        return await super().members(self.rename(key), **options)

    async def count(self, key: TagKey) -> int:
        return await super().count(self.rename(key))

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        return await super().claim(self.rename(key), id, version, at)


@broken("TAG-7", "TAG-2")
class CaseFoldedTags(_Renaming):
    """Upper and lower case are one."""

    def rename(self, key: TagKey) -> TagKey:
        return _change_texts(key, str.casefold)


@broken("TAG-7", "TAG-2")
class CutTags(_Renaming):
    """A text ends at its first NUL, or before trailing blanks."""

    def rename(self, key: TagKey) -> TagKey:
        return _change_texts(key, _cut)


@broken("TAG-7")
class JoinedKeys(_Renaming):
    """The parts of a key are put together without a sign of where one ends."""

    def rename(self, key: TagKey) -> TagKey:
        parts = f"{key.name}{key.tag}"
        return TagKey(key.kind, "-", parts) if 0 < len(parts) < 99 else key


@broken("TAG-7")
class OneKind(_Renaming):
    """The kind of a tag is no part of its key."""

    def rename(self, key: TagKey) -> TagKey:
        return replace(key, kind=TagKind.WORKFLOW) if key.kind is TagKind.TASK else key


@broken("TAG-8")
class UncheckedArguments(TagLink):
    """What cannot be written is left out, without a word."""

    async def update(self, changes: Sequence[TagChange]) -> None:
        for each in changes:
            try:
                await super().update([each])
            except InvalidArgument:
                continue


@broken("TAG-8")
class AnyKindIsClaimed(TagLink):
    """A tag can be claimed, too."""

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        return await super().claim(replace(key, kind=TagKind.CUSTOM_ID), id, version, at)


def _cut(text: str) -> str:
    return text.split("\0")[0].rstrip(" ") or "-"


def _change_texts(key: TagKey, change: Callable[[str], str]) -> TagKey:
    """The key with other texts. What is no key at all stays as it is."""
    try:
        return replace(key, name=change(key.name), tag=change(key.tag))
    except AttributeError:
        return key
