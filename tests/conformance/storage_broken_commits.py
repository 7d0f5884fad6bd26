"""Mutants that write, or say that they wrote, what they should not."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from infinitic.storage import Change, Lost, Outcome, Published, Refused, Segment, StateKey, Written
from tests.conformance.storage_sound import Server, broken


@broken("STO-2", "STO-3", "MODEL")
class LostUpdate(Server):
    """The expected version is not compared where there is an instance."""

    def _write(self, change: Change) -> Outcome:
        row = self._row(change.key)
        return super()._write(change if row is None else replace(change, expected=row.version))


@broken("STO-2")
class ZeroIsAbsent(Server):
    """The version 0 is taken for that of an absent instance."""

    def _write(self, change: Change) -> Outcome:
        return super()._write(replace(change, expected=change.expected or None))


@broken("STO-3", "MODEL")
class AllOrNothing(Server):
    """One outcome for a batch: lost, if one of it was."""

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        outcomes = super().commit(changes)
        lost = [each for each in outcomes if not isinstance(each, Written)]
        return [lost[0] for _ in outcomes] if lost else outcomes


@broken("STO-3")
class UnorderedOutcomes(Server):
    """Outcomes come in the order of keys."""

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        outcomes = super().commit(changes)
        return sorted(outcomes, key=lambda outcome: type(outcome).__name__)


@broken("STO-1", "STO-2", "MODEL")
class VersionReuse(Server):
    """A version that does not come after the stored one is written."""

    def _write(self, change: Change) -> Outcome:
        row = self._row(change.key)
        if row is None or row.version is None or row.stored is None or change.version > row.version:
            return super()._write(change)
        outcome = super()._write(replace(change, version=row.version + 1))
        if isinstance(outcome, Written):
            row.version = change.version
            row.stored = replace(row.stored, version=change.version)
            return Written(change.version)
        return outcome


@broken("STO-1", "MODEL")
class SegmentWithoutHead(Server):
    """The segment of a loser is kept."""

    def _write(self, change: Change) -> Outcome:
        outcome = super()._write(change)
        row = self._row(change.key)
        if isinstance(outcome, Lost) and row is not None and row.segments and change.segment:
            row.segments.append(change.segment)
        return outcome


@broken("STO-1", "MODEL")
class DeduplicationIdWithoutHead(Server):
    """The deduplication ids of a loser are kept."""

    def _write(self, change: Change) -> Outcome:
        outcome = super()._write(change)
        row = self._row(change.key)
        if row is not None and not isinstance(outcome, Written):
            row.deduplication_ids = {*row.deduplication_ids, *change.deduplication_ids}
        return outcome


@broken("STO-1", "STO-9", "MODEL")
class UncheckedDeduplicationIds(Server):
    """Deduplication ids are written, and never looked at."""

    def _write(self, change: Change) -> Outcome:
        row = self._row(change.key)
        kept: Any = () if row is None else row.deduplication_ids
        if row is not None:
            row.deduplication_ids = ()
        outcome = super()._write(change)
        if row is not None:
            row.deduplication_ids = {*kept, *row.deduplication_ids}
        return outcome


@broken("STO-9")
class FewDeduplicationIds(Server):
    """Only a thousand deduplication ids of a key are kept."""

    def _write(self, change: Change) -> Outcome:
        outcome = super()._write(change)
        row = self._row(change.key)
        if row is not None and len(row.deduplication_ids) > 1000:
            row.deduplication_ids = set(sorted(row.deduplication_ids)[:1000])
        return outcome


@broken("STO-6", "STO-1", "STO-3")
class Gaps(Server):
    """A segment need not follow the last one."""

    def _write(self, change: Change) -> Outcome:
        row = self._row(change.key)
        last = 0 if row is None or row.stored is None else row.stored.sequence
        segment = change.segment and Segment(last + 1, change.segment.events, change.segment.outbox)
        return super()._write(replace(change, segment=segment))


@broken("STO-4")
class LastOfAKeyWins(Server):
    """A key may come twice in a call."""

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        return [super(LastOfAKeyWins, self).commit([each])[0] for each in changes]


@broken("STO-10", "MODEL")
class PublishedChangesVersion(Server):
    """`Published` makes a new version."""

    def _mark_published(self, published: Published) -> Outcome:
        outcome = super()._mark_published(published)
        row = self._row(published.key)
        if isinstance(outcome, Written) and row is not None and row.stored is not None:
            row.version = outcome.version + 1
            row.stored = replace(row.stored, version=row.version)
        return outcome


@broken("STO-10", "STO-3", "MODEL")
class PublishedOfAnyVersion(Server):
    """`Published` of an old version is taken for one of the current."""

    def _mark_published(self, published: Published) -> Outcome:
        row = self._row(published.key)
        version = published.version if row is None or row.version is None else row.version
        return super()._mark_published(replace(published, version=version))


@broken("STO-13")
class PartlyTooLarge(Server):
    """What comes before a value that is too large is written."""

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        return [outcome for change in changes for outcome in super(PartlyTooLarge, self).commit([change])]


@broken("STO-13", "STO-1")
class NoOutboxes(Server):
    """An outbox is cut at its first NUL, and an empty one is none."""

    def _write(self, change: Change) -> Outcome:
        if change.segment is None or change.segment.outbox is None:
            return super()._write(change)
        outbox = change.segment.outbox.split(b"\0")[0][:5] or None
        return super()._write(replace(change, segment=replace(change.segment, outbox=outbox)))


@broken("STO-14")
class LongKeys(Server):
    """A key of any length is cut to what fits."""

    def _write(self, change: Change) -> Outcome:
        outcome = super()._write(change)
        if isinstance(outcome, Refused) and "at most" in outcome.reason:
            key = StateKey(
                *(text.encode(errors="replace")[:250].decode(errors="replace") for text in _get_texts(change))
            )
            return super()._write(replace(change, key=key))
        return outcome


def _get_texts(change: Change) -> tuple[str, str]:
    return change.key.name, change.key.id


class _Folding(Server):
    """Keys are compared by something else than themselves."""

    def fold(self, text: str) -> str:
        raise NotImplementedError

    def _folded(self, key: StateKey) -> StateKey:
        return StateKey(self.fold(key.name), self.fold(key.id))

    def _row(self, key: StateKey) -> Any:
        return super()._row(self._folded(key))

    def _write(self, change: Change) -> Outcome:
        return super()._write(replace(change, key=self._folded(change.key)))


@broken("STO-14", "MODEL")
class CaseFoldingKeys(_Folding):
    """Keys that differ in case are one."""

    def fold(self, text: str) -> str:
        return text.casefold()


@broken("STO-14", "MODEL")
class TrailingBlanks(_Folding):
    """Keys that differ in trailing blanks are one."""

    def fold(self, text: str) -> str:
        return text.rstrip(" ")


@broken("STO-14")
class NormalizedKeys(_Folding):
    """Keys are normalized to NFC."""

    def fold(self, text: str) -> str:
        return unicodedata.normalize("NFC", text)


@broken("STO-14", "MODEL")
class CaseFoldingDeduplicationIds(Server):
    """Deduplication ids that differ in case are one."""

    def _write(self, change: Change) -> Outcome:
        return super()._write(
            replace(change, deduplication_ids=tuple(dict.fromkeys(id_.casefold() for id_ in change.deduplication_ids)))
        )
