"""What is read is what was written: heads, events and outboxes carry a checksum, and a history has no holes.

`CheckedStorage` stands between the engines and any storage. A checksum is a CRC-32 of the value
*and* of its place: of an instance's key, and of the version of a head or the sequence of a segment.
These make the number that the CRC begins with. So a value that stands where another should is found
like one with a flipped bit. What release 0.1 wrote has no checksum and is read as it is; only its
order is checked.

Values stay what they were for whoever looks at the database::

    events   ["0123abcd", {event}, …]       still JSON; values that are no JSON list have the form of outboxes
    head     [2, checksum, [head]]          still msgpack; to release 0.1 it is a state of a newer schema: left alone
    outbox   0xC1, 4 bytes, outbox          0xC1 begins no msgpack value

This costs 7 bytes a head, 11 the events, 5 an outbox.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn
from zlib import crc32

from msgspec.structs import replace

from infinitic.storage import (
    Change,
    DamagedState,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StateKey,
    StateStorage,
    Storage,
    StorageCapabilities,
    Stored,
)

OVERHEAD = 16
"""Bytes that a value grows by, at most."""

_BINARY = b"\xc1"
_LIST = b"\x93"  # a msgpack list of three: no head is one
_ENVELOPE = b"\x93\x02\xce"  # that list, schema 2, and a number of 4 bytes
_QUOTED = b'["'

_HEAD, _EVENTS, _OUTBOX = crc32(_ENVELOPE), crc32(b"events"), crc32(b"outbox")
"""Differ by kind, so that the events and the outbox of a segment are not taken for each other."""

_COMPUTED = "it is not what was written: its checksum differs"
_MISSING = "its checksum is missing"


def _place(key: StateKey) -> int:
    """The checksum of a key. With a number and a kind it is what the checksum of a value begins with.

    `place ^ version ^ _HEAD`, for instance: `crc32` takes the lowest 32 bits of that.
    """
    return crc32(f"{key.name}\0{key.id}".encode("utf-8", "surrogatepass"))


def seal(change: Change) -> Change:
    """The change with checksums in its values."""
    place, segment = _place(change.key), change.segment
    checksum = crc32(change.head, place ^ change.version ^ _HEAD)
    head = _ENVELOPE + checksum.to_bytes(4, "big") + change.head
    if segment is None:
        return replace(change, head=head)
    place ^= segment.sequence
    outbox = segment.outbox
    if outbox is not None:
        outbox = _BINARY + crc32(outbox, place ^ _OUTBOX).to_bytes(4, "big") + outbox
    events = segment.events
    if events[:2] == b"[{":  # as those of every transition begin
        events = b'["%08x",%b' % (crc32(events, place ^ _EVENTS), events[1:])
    else:
        events = _seal_others(events, place ^ _EVENTS)
    return replace(change, head=head, segment=Segment(segment.sequence, events, outbox))


def open_head(key: StateKey, stored: Stored) -> Stored:
    """The state without its checksum. One that is not as it was written has `damage`, and no head.

    A sound one of a newer release stays as it is: decoding it says so.
    """
    head = stored.head
    if stored.damage or head[:1] != _LIST:
        return stored
    envelope, body = head[:3], head[7:]
    if head[3:7] != _of_head(envelope, body, key, stored.version):
        return replace(stored, head=b"", damage=_COMPUTED)
    return replace(stored, head=body) if envelope == _ENVELOPE else stored


def _of_head(envelope: bytes, body: bytes, key: StateKey, version: int) -> bytes:
    return crc32(body, _place(key) ^ version ^ crc32(envelope)).to_bytes(4, "big")


def open_segment(key: StateKey, segment: Segment) -> Segment:
    """The segment without its checksums. Raises `DamagedState` for one that is not as it was written."""
    number, outbox = segment.sequence, segment.outbox
    events = segment.events
    if events[:2] == _QUOTED:
        events = _open_events(events, key, number)
    elif events[:1] == _BINARY:
        events = _open_binary(events, _EVENTS, key, number)
    if outbox is not None and outbox[:1] == _BINARY:
        outbox = _open_binary(outbox, _OUTBOX, key, number)
    elif outbox and _is_sealed(segment):
        raise DamagedState(key, f"The outbox of segment {number}", _MISSING)
    return Segment(number, events, outbox)


def _seal_others(events: bytes, seed: int) -> bytes:
    """An empty list, a list of what are no objects, or what is no list."""
    if events[:1] != b"[" or events[-1:] != b"]":
        return _seal_binary(events, seed)
    comma = b"" if len(events) == 2 else b","
    return b'["%08x"%b%b' % (crc32(events, seed), comma, events[1:])


def _open_events(sealed: bytes, key: StateKey, number: int) -> bytes:
    after = sealed[10:12]
    if after == b'",' or (after == b'"]' and len(sealed) == 12):
        events = b"[%b" % sealed[12 if after == b'",' else 11 :]
        if sealed[2:10] == b"%08x" % crc32(events, _place(key) ^ number ^ _EVENTS):
            return events
    _refuse(_EVENTS, key, number)


def _seal_binary(value: bytes, seed: int) -> bytes:
    return _BINARY + crc32(value, seed).to_bytes(4, "big") + value


def _open_binary(sealed: bytes, kind: int, key: StateKey, number: int) -> bytes:
    value = sealed[5:]
    if sealed[1:5] != crc32(value, _place(key) ^ number ^ kind).to_bytes(4, "big"):
        _refuse(kind, key, number)
    return value


def _refuse(kind: int, key: StateKey, number: int) -> NoReturn:
    what = f"Segment {number}" if kind == _EVENTS else f"The outbox of segment {number}"
    raise DamagedState(key, what, _COMPUTED)


def _is_sealed(segment: Segment) -> bool:
    return segment.events[:2] == _QUOTED or segment.events[:1] == _BINARY


def _check_order(key: StateKey, found: Sequence[Segment], wanted: Sequence[int]) -> None:
    if [each.sequence for each in found] == list(wanted):
        return
    there = {each.sequence for each in found}
    lost = next((each for each in wanted if each not in there), None)
    if lost is None:
        raise DamagedState(key, "The history", "a segment is there twice")
    raise DamagedState(key, f"Segment {lost}", "it is missing")


class CheckedStorage(Storage):
    """Another storage, whose values are written with checksums, and checked when they are read.

    What is damaged is said by `Stored.damage` and by `DamagedState`, for the one instance: others
    are not held up. Unlike other storages its `history` raises, too, where a segment is missing.
    Closing it closes the inner storage.
    """

    __slots__ = ("_inner", "capabilities", "states")

    def __init__(self, inner: Storage) -> None:
        self._inner = inner
        self.capabilities = self._capabilities()
        self.states = _CheckedStates(inner.states)

    async def prepare(self) -> None:
        await self._inner.prepare()
        self.capabilities = self._capabilities()  # a storage may know them only now

    async def close(self) -> None:
        await self._inner.close()

    def _capabilities(self) -> StorageCapabilities:
        inner = self._inner.capabilities
        return replace(inner, max_value=inner.max_value - OVERHEAD)


def checked(storage: Storage) -> CheckedStorage:
    """The storage with checksums; itself if it has them already."""
    return storage if isinstance(storage, CheckedStorage) else CheckedStorage(storage)


class _CheckedStates(StateStorage):
    """The verbs of the inner storage, with values sealed and opened."""

    __slots__ = ("_inner",)

    def __init__(self, inner: StateStorage) -> None:
        self._inner = inner

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        found = await self._inner.load(keys)
        return {key: open_head(key, stored) for key, stored in found.items()}

    async def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        found = await self._inner.history(key, after=after, limit=limit, sequences=sequences, outbox=outbox)
        if sequences is None:
            wanted: Sequence[int] = range(max(after, 0) + 1, max(after, 0) + 1 + len(found))
        else:
            wanted = sorted({each for each in sequences if each > 0})
        _check_order(key, found, wanted)
        await self._check_sealed(key, found)
        return [open_segment(key, each) for each in found]

    async def _check_sealed(self, key: StateKey, found: Sequence[Segment]) -> None:
        """Once a release wrote checksums, so do all later ones.

        What stands behind a checksum and has none was put there. What stands before the first such
        segment is read only if it was not read with it, so only in a history of release 0.1.
        """
        bare = [each.sequence for each in found if not _is_sealed(each)]
        if not bare:
            return
        known = {each.sequence: _is_sealed(each) for each in found}
        before = [number - 1 for number in bare if number > 1 and number - 1 not in known]
        if before:
            earlier = await self._inner.history(key, sequences=before)
            _check_order(key, earlier, before)
            known |= {each.sequence: _is_sealed(each) for each in earlier}
        first = min((number for number, is_sealed in known.items() if is_sealed), default=bare[-1])
        for number in bare:
            if number > first:
                raise DamagedState(key, f"Segment {number}", _MISSING)

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        return await self._inner.commit([seal(each) if isinstance(each, Change) else each for each in changes])

    async def find(self, query: Query) -> Page:
        return await self._inner.find(query)

    async def count(self, query: Query) -> int:
        return await self._inner.count(query)

    async def purge(self, now: float, limit: int = 1000) -> int:
        return await self._inner.purge(now, limit)
