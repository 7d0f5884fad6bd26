"""Heads, events and outboxes compressed on their way to a storage, each by itself.

A value says how it was written, so the setting may change while data stays. Its first byte is 0x01
for gzip, 0x02 for zstd; anything else is the plain value as it is, but for a plain value that
begins with 0x00, 0x01 or 0x02: 0x00 goes before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from msgspec.structs import replace

from infinitic.diagnosis import Diagnosable, Diagnosis
from infinitic.errors import MissingDriverError
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
    ValueTooLarge,
)

Compression = Literal["none", "gzip", "zstd"]

MINIMUM_SIZE = 256
"""Bytes below which a value is not worth the attempt."""

_PLAIN, _GZIP, _ZSTD = b"\x00", b"\x01", b"\x02"
_MARKED = (_PLAIN, _GZIP, _ZSTD)
_WITH_HEADER = 31  # zlib's name for the gzip format, which has a checksum
_LEVEL = 6


class _Zstd(NamedTuple):
    """One compressor and one decompressor: values come one at a time, since no verb suspends in between."""

    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes, int], bytes]
    error: type[Exception]


def _zstd() -> _Zstd:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise MissingDriverError("Compression 'zstd'", "zstd", "zstandard") from error
    compressor, decompressor = zstandard.ZstdCompressor(write_checksum=True), zstandard.ZstdDecompressor()

    def decompress(value: bytes, limit: int) -> bytes:
        """Its size is looked at first: it may ask for any. Ours say it; what does not is given `limit` bytes."""
        if zstandard.frame_content_size(value) > limit:
            raise _TooLarge
        return decompressor.decompress(value, max_output_size=limit, allow_extra_data=False)

    return _Zstd(compressor.compress, decompress, zstandard.ZstdError)


class _TooLarge(Exception):
    """A value is larger than any that is written."""


class _Codec:
    """Values to bytes and back. Belongs to one event loop."""

    def __init__(self, compression: Compression, minimum_size: int) -> None:
        self._compression = compression
        self._minimum_size = minimum_size
        self._zstd = _zstd() if compression == "zstd" else None

    def encode(self, value: bytes) -> bytes:
        plain = _PLAIN + value if value[:1] in _MARKED else value
        if self._compression == "none" or len(value) < self._minimum_size:
            return plain
        if self._zstd is not None:
            packed = _ZSTD + self._zstd.compress(value)
        else:
            packed = _GZIP + zlib.compress(value, _LEVEL, _WITH_HEADER)
        return packed if len(packed) < len(plain) else plain

    def decode(self, value: bytes, what: str, key: StateKey, limit: int) -> bytes:
        """Raises `DamagedState` for what is damaged or has more than `limit` bytes, `MissingDriverError`."""
        mark = value[:1]
        if mark == _PLAIN:
            return value[1:]
        if mark not in (_GZIP, _ZSTD):
            return value
        try:
            if mark == _GZIP:
                return _gunzip(value[1:], limit)
            zstd = self._zstd = self._zstd or _zstd()
            try:
                return zstd.decompress(value[1:], limit)
            except (zstd.error, MemoryError) as error:
                raise DamagedState(key, what, f"it cannot be decompressed: {error}") from error
        except zlib.error as error:
            raise DamagedState(key, what, f"it cannot be decompressed: {error}") from error
        except _TooLarge:
            why = f"decompressed it is larger than `max_value`, {limit:,} bytes; raise that, if it was lowered"
            raise DamagedState(key, what, why) from None


def _gunzip(packed: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(_WITH_HEADER)
    value = stream.decompress(packed, limit + 1)  # and no more, whatever it holds
    if len(value) > limit:
        raise _TooLarge
    if not stream.eof or stream.unused_data:
        raise zlib.error("it is cut off, or more follows")
    return value


class _CompressedStates(StateStorage):
    """The verbs of the inner storage, with values encoded and decoded."""

    __slots__ = ("_codec", "_inner", "limit")

    def __init__(self, inner: StateStorage, codec: _Codec, limit: int) -> None:
        self._inner = inner
        self._codec = codec
        self.limit = limit

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        found = await self._inner.load(keys)
        return {key: self._open(key, stored) for key, stored in found.items()}

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
        return [self._read(key, segment) for segment in found]

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        return await self._inner.commit(
            [self._write(change) if isinstance(change, Change) else change for change in changes]
        )

    async def find(self, query: Query) -> Page:
        return await self._inner.find(query)

    async def count(self, query: Query) -> int:
        return await self._inner.count(query)

    async def purge(self, now: float, limit: int = 1000) -> int:
        return await self._inner.purge(now, limit)

    def _open(self, key: StateKey, stored: Stored) -> Stored:
        """One head that is damaged does not keep the others from being loaded."""
        if stored.damage:
            return stored
        try:
            return replace(stored, head=self._codec.decode(stored.head, "The head", key, self.limit))
        except DamagedState as damage:
            return replace(stored, head=b"", damage=damage.why)

    def _read(self, key: StateKey, segment: Segment) -> Segment:
        decode, sequence = self._codec.decode, segment.sequence
        outbox = segment.outbox
        return Segment(
            sequence,
            decode(segment.events, f"Segment {sequence}", key, self.limit),
            None if outbox is None else decode(outbox, f"The outbox of segment {sequence}", key, self.limit),
        )

    def _write(self, change: Change) -> Change:
        head = self._encode(change.head, "A head")
        segment = change.segment
        if segment is not None:
            outbox = segment.outbox
            segment = Segment(
                segment.sequence,
                self._encode(segment.events, "A segment"),
                None if outbox is None else self._encode(outbox, "An outbox"),
            )
        return replace(change, head=head, segment=segment)

    def _encode(self, value: bytes, what: str) -> bytes:
        """The limit is for plain values: what fits does not depend on how well it compresses, nor on the setting."""
        if len(value) > self.limit:
            raise ValueTooLarge(len(value), self.limit, what)
        return self._codec.encode(value)


class CompressedStorage(Storage):
    """Another storage, whose values are written compressed where that makes them smaller.

    It reads what any setting has written; `none` writes plain values. Values below `minimum_size`
    bytes are left alone. Closing it closes the inner storage. Raises `MissingDriverError` for zstd
    without its driver.
    """

    __slots__ = ("_inner", "_states", "capabilities", "states")

    def __init__(self, inner: Storage, compression: Compression = "none", *, minimum_size: int = MINIMUM_SIZE) -> None:
        if compression not in ("none", "gzip", "zstd"):
            raise ValueError(f"compression is none, gzip or zstd, not {compression!r}")
        self._inner = inner
        self.capabilities = self._capabilities()
        codec = _Codec(compression, minimum_size)
        self._states = _CompressedStates(inner.states, codec, self.capabilities.max_value)
        self.states = self._states

    async def prepare(self) -> None:
        await self._inner.prepare()
        self.capabilities = self._capabilities()  # a storage may know them only now
        self._states.limit = self.capabilities.max_value

    async def diagnose(self) -> list[Diagnosis]:
        """How the inner storage is, see `infinitic.diagnosis`; nothing if it cannot tell."""
        return await self._inner.diagnose() if isinstance(self._inner, Diagnosable) else []

    async def close(self) -> None:
        await self._inner.close()

    def _capabilities(self) -> StorageCapabilities:
        """One byte less for a value: some need a mark before them."""
        inner = self._inner.capabilities
        return replace(inner, max_value=inner.max_value - 1)
