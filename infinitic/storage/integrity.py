"""What is read is what was written: heads, events and outboxes have checksums, a history no holes.

`CheckedStorage` stands between the engines and any storage. A checksum is a CRC-32 of the value
*and* of its place: the key of the instance, the version of a head or the sequence of a segment, and
the kind of value. So a value in the place of another one is found like one with a flipped bit. What
release 0.1 wrote has no checksum and is read as it is; only its order is checked.

Somebody who looks at the database still sees JSON and msgpack::

    events   ["0123abcd", {event}, …]   a JSON list. What is no list has the form of an outbox
    head     [2, checksum, [head]]      msgpack. Release 0.1 takes it for a newer schema: left alone
    outbox   0xC1, 4 bytes, outbox      no msgpack value begins with 0xC1

That costs 7 bytes for a head, 11 for the events and 5 for an outbox.
"""

from __future__ import annotations

from binascii import hexlify
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from zlib import crc32

from msgspec.structs import replace

from infinitic.storage.errors import DamagedState
from infinitic.storage.keys import StateKey
from infinitic.storage.port import Storage
from infinitic.storage.values import Change, Segment, Stored
from infinitic.storage.wrapper import WrappedStates, WrappedStorage

OVERHEAD = 16
"""Bytes by which a value grows, at most."""

_BINARY = b"\xc1"
# A msgpack list of three. No head of an instance is one.
_LIST = b"\x93"
# That list, schema 2, and the beginning of a number of 4 bytes.
_ENVELOPE = b"\x93\x02\xce"
_QUOTED = b'["'
# One of the two, and a checksum of 4 bytes.
_pack_head = Struct(">3sI").pack
_pack_binary = Struct(">cI").pack

_HEAD, _EVENTS, _OUTBOX = crc32(_ENVELOPE), crc32(b"events"), crc32(b"outbox")
"""Numbers of the kinds of values. So the events of a segment are not taken for its outbox."""

_DIFFERS = "it is not what was written: its checksum differs"
_MISSING = "its checksum is missing"


def _compute_place(key: StateKey) -> int:
    """A number for the key of an instance."""
    return crc32(key.id.encode("utf-8", "surrogatepass"), _begin_place(key.name))


@lru_cache(1000)
def _begin_place(name: str) -> int:
    """The checksum of what all instances of a workflow have in common."""
    return crc32(f"{name}\0".encode("utf-8", "surrogatepass"))


def _compute_checksum(value: bytes, place: int, number: int, kind: int) -> int:
    """The checksum of a value. `crc32` begins with the lowest 32 bits of its second argument.

    Args:
        value: what is written.
        place: the number of its instance.
        number: the version of a head, or the sequence of a segment.
        kind: `_HEAD`, `_EVENTS` or `_OUTBOX`.
    """
    return crc32(value, place ^ number ^ kind)


def add_checksums(change: Change) -> Change:
    """The change with checksums in its values."""
    key, head, segment = change.key, change.head, change.segment
    # This runs for every transition. So `_compute_place` and `_compute_checksum` are written out.
    try:
        place = crc32(key.id.encode(), _begin_place(key.name))
    except UnicodeEncodeError:
        place = _compute_place(key)
    head = _pack_head(_ENVELOPE, crc32(head, place ^ change.version ^ _HEAD)) + head
    if segment is None:
        return replace(change, head=head)
    number, events, outbox = segment.sequence, segment.events, segment.outbox
    place ^= number
    checksum = crc32(events, place ^ _EVENTS)
    # 0x5B and 0x5D are the brackets of a list.
    if len(events) > 2 and events[0] == 0x5B and events[-1] == 0x5D:
        # A format would take twice as long.
        events = b'["' + hexlify(checksum.to_bytes(4, "big")) + b'",' + events[1:]
    elif events == b"[]":
        events = b'["%08x"]' % checksum
    else:
        events = _pack_binary(_BINARY, checksum) + events
    if outbox is not None:
        outbox = _pack_binary(_BINARY, crc32(outbox, place ^ _OUTBOX)) + outbox
    return replace(change, head=head, segment=Segment(number, events, outbox))


def check_head(key: StateKey, stored: Stored) -> Stored:
    """The state without its checksum. If it is not what was written, it has `damage` and no head.

    A sound head of a newer release stays as it is. Whoever decodes it sees what it is.
    """
    head = stored.head
    if stored.damage or head[:1] != _LIST:
        return stored
    envelope, body = head[:3], head[7:]
    checksum = _compute_checksum(body, _compute_place(key), stored.version, crc32(envelope))
    if head[3:7] != checksum.to_bytes(4, "big"):
        return replace(stored, head=b"", damage=_DIFFERS)
    return replace(stored, head=body) if envelope == _ENVELOPE else stored


def check_segment(key: StateKey, segment: Segment, place: int | None = None) -> Segment:
    """The segment without its checksums.

    Args:
        key: its instance.
        segment: as it was read.
        place: the number of the instance. None: it is computed.

    Raises:
        DamagedState: it is not what was written.
    """
    number, events, outbox = segment.sequence, segment.events, segment.outbox
    place = (_compute_place(key) if place is None else place) ^ number
    has_checksum = False
    # This runs for every segment that is read. So `_compute_checksum` is written out.
    if events[:2] == _QUOTED:
        after = events[10:12]
        inner = b"[%b" % events[12 if after == b'",' else 11 :]
        is_list = after == b'",' or (after == b'"]' and len(events) == 12)
        if not is_list or events[2:10] != b"%08x" % crc32(inner, place ^ _EVENTS):
            raise DamagedState(key, f"Segment {number}", _DIFFERS)
        events, has_checksum = inner, True
    elif events[:1] == _BINARY:
        if events[1:5] != crc32(events[5:], place ^ _EVENTS).to_bytes(4, "big"):
            raise DamagedState(key, f"Segment {number}", _DIFFERS)
        events, has_checksum = events[5:], True
    if outbox is not None and outbox[:1] == _BINARY:
        if outbox[1:5] != crc32(outbox[5:], place ^ _OUTBOX).to_bytes(4, "big"):
            raise DamagedState(key, f"The outbox of segment {number}", _DIFFERS)
        outbox = outbox[5:]
    elif outbox and has_checksum:
        raise DamagedState(key, f"The outbox of segment {number}", _MISSING)
    return Segment(number, events, outbox)


def _has_checksum(segment: Segment) -> bool:
    return segment.events[:2] == _QUOTED or segment.events[:1] == _BINARY


def _check_order(key: StateKey, found: Sequence[Segment], wanted: Sequence[int]) -> None:
    """Check that exactly the wanted segments were found, in this order."""
    if [each.sequence for each in found] == list(wanted):
        return
    there = {each.sequence for each in found}
    lost = next((each for each in wanted if each not in there), None)
    if lost is None:
        raise DamagedState(key, "The history", "a segment is there twice")
    raise DamagedState(key, f"Segment {lost}", "it is missing")


class CheckedStorage(WrappedStorage):
    """Another storage, whose values are written with checksums, and checked when they are read.

    Damage is reported for the one instance only, by `Stored.damage` and `DamagedState`. Unlike that
    of other storages, `history` also raises when a segment is missing. Closing it closes the inner
    storage.

    Args:
        inner: what is wrapped.
    """

    __slots__ = ()

    overhead = OVERHEAD

    def __init__(self, inner: Storage) -> None:
        super().__init__(inner, _CheckedStates(inner.states))


def ensure_checked(storage: Storage) -> CheckedStorage:
    """Add checksums to a storage, unless it has them already."""
    return storage if isinstance(storage, CheckedStorage) else CheckedStorage(storage)


class _CheckedStates(WrappedStates):
    """The methods of the inner storage, with checksums in the values."""

    __slots__ = ()

    def encode_change(self, change: Change) -> Change:
        return add_checksums(change)

    def decode_state(self, key: StateKey, stored: Stored) -> Stored:
        return check_head(key, stored)

    def decode_segment(self, key: StateKey, segment: Segment) -> Segment:
        return check_segment(key, segment)

    async def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        """Read segments, see `StateStorage.history`.

        Raises:
            DamagedState: a segment is missing, is there twice, or is not what was written.
        """
        found = await self.inner.history(key, after=after, limit=limit, sequences=sequences, outbox=outbox)
        if sequences is None:
            wanted: Sequence[int] = range(max(after, 0) + 1, max(after, 0) + 1 + len(found))
        else:
            wanted = sorted({each for each in sequences if each > 0})
        _check_order(key, found, wanted)
        await self._check_presence(key, found)
        place = _compute_place(key)
        return [check_segment(key, each, place) for each in found]

    async def _check_presence(self, key: StateKey, found: Sequence[Segment]) -> None:
        """Check that no segment without a checksum follows one with a checksum.

        Since a release writes checksums, all later ones do. So such a segment was put there. The
        segments before the found ones are read only in a history that release 0.1 has begun.

        Raises:
            DamagedState: a checksum is missing.
        """
        bare = [each.sequence for each in found if not _has_checksum(each)]
        if not bare:
            return
        known = {each.sequence: _has_checksum(each) for each in found}
        before = [number - 1 for number in bare if number > 1 and number - 1 not in known]
        if before:
            earlier = await self.inner.history(key, sequences=before)
            _check_order(key, earlier, before)
            known |= {each.sequence: _has_checksum(each) for each in earlier}
        first = min((number for number, has_checksum in known.items() if has_checksum), default=bare[-1])
        for number in bare:
            if number > first:
                raise DamagedState(key, f"Segment {number}", _MISSING)
