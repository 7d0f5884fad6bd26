"""Bugs around the storage: compare-and-set, group commit, deduplication ids, purges."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from infinitic.runtime.state_engine.group_commit import GroupCommit
from infinitic.storage import Change, Lost, Published, StorageOutcomeUnknown, Written
from infinitic_storages.memory import Database
from tests.simulation.planted.planting import Part, Planter, bug

STORAGE = "storage"


@bug(STORAGE)
def no_compare_and_set(planter: Planter) -> None:
    """A change is written whatever version is stored."""

    @planter.wrap(Database, "_write")
    def write(original: Part, self: Any, change: Change) -> Any:
        row = self._row(change.key)
        if row is not None and row.stored is not None:
            change = replace(change, expected=row.version, version=max(change.version, row.version + 1))
        return original(self, change)


@bug(STORAGE)
def mismatch_reported_as_written(planter: Planter) -> None:
    """A change that was not written, because another one came first, is reported as written."""

    @planter.wrap(Database, "_write")
    def write(original: Part, self: Any, change: Change) -> Any:
        outcome = original(self, change)
        return Written(change.version) if isinstance(outcome, Lost) else outcome


@bug(STORAGE)
def unknown_commit_taken_for_written(planter: Planter) -> None:
    """A commit whose reply was lost is taken for written."""

    @planter.wrap(GroupCommit, "_write")
    async def write(original: Part, self: Any, changes: Sequence[Change | Published]) -> Any:
        try:
            return await original(self, changes)
        except StorageOutcomeUnknown:
            return [Written(each.version) for each in changes]


@bug(STORAGE)
def outcomes_mixed_up(planter: Planter) -> None:
    """The outcomes of a group commit are given to the changes in reverse order."""

    @planter.wrap(GroupCommit, "_send")
    async def send(original: Part, self: Any, changes: Sequence[Change]) -> Any:
        return (await original(self, changes))[::-1]


@bug(STORAGE)
def mark_of_another_version(planter: Planter) -> None:
    """The mark that an outbox was published counts for a later outbox, too."""

    @planter.wrap(Database, "_mark_published")
    def mark_published(original: Part, self: Any, published: Published) -> Any:
        row = self._row(published.key)
        version = published.version if row is None or row.version is None else row.version
        return original(self, replace(published, version=version))


@bug(STORAGE)
def remnant_forgotten_too_early(planter: Planter) -> None:
    """A purge leaves nothing by which a late start is recognised."""

    @planter.wrap(Database, "purge")
    def purge(original: Part, self: Any, now: float, limit: int = 1000) -> int:
        count: int = original(self, now, limit)
        for _, _, row in self._remnants:
            row.version = row.expires_at = None
            self._drop_if_empty(row)
        self._remnants.clear()
        return count


@bug(STORAGE)
def deduplication_ids_forgotten_too_early(planter: Planter) -> None:
    """A purge forgets deduplication ids long before the deduplication window is over."""

    @planter.wrap(Database, "_expire")
    def expire(original: Part, self: Any, due: float, row: Any, ids: tuple[str, ...]) -> None:
        original(self, due - self.deduplication_window if ids else due, row, ids)


@bug(STORAGE)
def segment_lost(planter: Planter) -> None:
    """One segment in five is replaced by an empty one, and nobody looks."""

    @planter.wrap(Database, "_write")
    def write(original: Part, self: Any, change: Change) -> Any:
        segment = change.segment
        if segment is not None and segment.sequence % 5 == 4:
            change = replace(change, segment=replace(segment, events=b"[]"))
        return original(self, change)
