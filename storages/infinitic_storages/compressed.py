"""Heads, events and outboxes that are compressed on their way to a storage, each by itself.

A value says how it was written, so the setting may change while data stays. Its first byte is 0x01
for gzip, and 0x02 for zstd. Any other value is plain. A plain value that begins with 0x00, 0x01 or
0x02 is written with 0x00 before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Literal, NamedTuple

from msgspec.structs import replace

from infinitic.errors import MissingDriverError
from infinitic.storage import (
    Change,
    DamagedState,
    Segment,
    StateKey,
    StateStorage,
    Storage,
    Stored,
    ValueTooLarge,
)
from infinitic.storage.wrapper import WrappedStates, WrappedStorage

Compression = Literal["none", "gzip", "zstd"]

MINIMUM_SIZE = 256
"""Bytes below which compression saves too little."""

_PLAIN, _GZIP, _ZSTD = b"\x00", b"\x01", b"\x02"
_FORMS = (_PLAIN, _GZIP, _ZSTD)
# The number by which zlib knows the gzip format, which has a checksum.
_WITH_HEADER = 31
_LEVEL = 6


class _Zstd(NamedTuple):
    """One compressor and one decompressor. Each value is done before the next one begins."""

    compress: Callable[[bytes], bytes]
    decompress: Callable[[bytes, int], bytes]
    error: type[Exception]


def _load_zstd() -> _Zstd:
    try:
        import zstandard
    except ModuleNotFoundError as error:
        raise MissingDriverError("Compression 'zstd'", "zstd", "zstandard") from error
    compressor, decompressor = zstandard.ZstdCompressor(write_checksum=True), zstandard.ZstdDecompressor()

    def decompress(value: bytes, limit: int) -> bytes:
        """Decompress a value. It may claim any size, so that is checked first.

        Values that this module wrote tell their size. Any other may have up to `limit` bytes.
        """
        if zstandard.frame_content_size(value) > limit:
            raise _TooLarge
        return decompressor.decompress(value, max_output_size=limit, allow_extra_data=False)

    return _Zstd(compressor.compress, decompress, zstandard.ZstdError)


class _TooLarge(Exception):
    """A value is larger than the largest that may be written."""


class _Codec:
    """Compresses and decompresses values. It belongs to one event loop."""

    def __init__(self, compression: Compression, minimum_size: int) -> None:
        self._compression = compression
        self._minimum_size = minimum_size
        self._zstd = _load_zstd() if compression == "zstd" else None

    def encode(self, value: bytes) -> bytes:
        plain = _PLAIN + value if value[:1] in _FORMS else value
        if self._compression == "none" or len(value) < self._minimum_size:
            return plain
        if self._zstd is not None:
            packed = _ZSTD + self._zstd.compress(value)
        else:
            packed = _GZIP + zlib.compress(value, _LEVEL, _WITH_HEADER)
        return packed if len(packed) < len(plain) else plain

    def decode(self, value: bytes, what: str, key: StateKey, limit: int) -> bytes:
        """Decompress a value.

        Args:
            value: as it is stored.
            what: names it in an error, such as "The head".
            key: its instance.
            limit: bytes that it may have.

        Raises:
            DamagedState: it cannot be decompressed, or has more bytes.
            MissingDriverError: it needs zstd, which is not installed.
        """
        form = value[:1]
        if form == _PLAIN:
            return value[1:]
        if form not in (_GZIP, _ZSTD):
            return value
        try:
            if form == _GZIP:
                return _gunzip(value[1:], limit)
            zstd = self._zstd = self._zstd or _load_zstd()
            try:
                return zstd.decompress(value[1:], limit)
            except (zstd.error, MemoryError) as error:
                raise DamagedState(key, what, f"it cannot be decompressed: {error}") from error
        except zlib.error as error:
            raise DamagedState(key, what, f"it cannot be decompressed: {error}") from error
        except _TooLarge:
            why = f"decompressed, it is larger than `max_value`, {limit:,} bytes; raise that, if it was lowered"
            raise DamagedState(key, what, why) from None


def _gunzip(packed: bytes, limit: int) -> bytes:
    stream = zlib.decompressobj(_WITH_HEADER)
    # It stops there, whatever the value holds.
    value = stream.decompress(packed, limit + 1)
    if len(value) > limit:
        raise _TooLarge
    if not stream.eof or stream.unused_data:
        raise zlib.error("it is cut off, or more follows")
    return value


class _CompressedStates(WrappedStates):
    """The methods of the inner storage, with compressed values.

    Args:
        inner: what is wrapped.
        codec: compresses and decompresses.
        limit: bytes that a value may have before it is compressed.
    """

    __slots__ = ("_codec", "limit")

    def __init__(self, inner: StateStorage, codec: _Codec, limit: int) -> None:
        super().__init__(inner)
        self._codec = codec
        self.limit = limit

    def encode_change(self, change: Change) -> Change:
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

    def decode_state(self, key: StateKey, stored: Stored) -> Stored:
        """The state, decompressed. A damaged head does not keep others from being loaded."""
        if stored.damage:
            return stored
        try:
            return replace(stored, head=self._codec.decode(stored.head, "The head", key, self.limit))
        except DamagedState as damage:
            return replace(stored, head=b"", damage=damage.why)

    def decode_segment(self, key: StateKey, segment: Segment) -> Segment:
        decode, sequence = self._codec.decode, segment.sequence
        outbox = segment.outbox
        return Segment(
            sequence,
            decode(segment.events, f"Segment {sequence}", key, self.limit),
            None if outbox is None else decode(outbox, f"The outbox of segment {sequence}", key, self.limit),
        )

    def _encode(self, value: bytes, what: str) -> bytes:
        """Compress a value.

        The limit is for plain values. So what fits depends neither on how well a value compresses,
        nor on the setting.
        """
        if len(value) > self.limit:
            raise ValueTooLarge(len(value), self.limit, what)
        return self._codec.encode(value)


class CompressedStorage(WrappedStorage):
    """Another storage, whose values are compressed where that makes them smaller.

    It reads what was written with any setting. Closing it closes the inner storage.

    Args:
        inner: what is wrapped.
        compression: how values are written: "none", "gzip" or "zstd".
        minimum_size: bytes below which values are left alone.

    Raises:
        MissingDriverError: zstd is not installed.

    Example::

        storage = CompressedStorage(PostgresStorage(settings), "zstd")
    """

    __slots__ = ("_states",)

    # Some plain values need a byte before them.
    overhead = 1

    def __init__(self, inner: Storage, compression: Compression = "none", *, minimum_size: int = MINIMUM_SIZE) -> None:
        if compression not in ("none", "gzip", "zstd"):
            raise ValueError(f"compression has to be none, gzip or zstd, not {compression!r}")
        limit = inner.capabilities.max_value - self.overhead
        self._states = _CompressedStates(inner.states, _Codec(compression, minimum_size), limit)
        super().__init__(inner, self._states)

    async def prepare(self) -> None:
        await super().prepare()
        self._states.limit = self.capabilities.max_value
