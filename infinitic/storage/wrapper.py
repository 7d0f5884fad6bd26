"""The base classes of storages that stand before another one, and change the values on their way.

What they have in common: they pass every call on, and values are changed in three places only: a
change that is written, a state that is loaded, and segments that are read.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from msgspec.structs import replace

from infinitic.diagnosis import Diagnosable, Diagnosis
from infinitic.storage.keys import StateKey
from infinitic.storage.port import StateStorage, Storage
from infinitic.storage.values import (
    Change,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StorageCapabilities,
    Stored,
)


class WrappedStates(StateStorage):
    """The methods of another storage, with values that are encoded and decoded.

    Args:
        inner: what is wrapped.
    """

    __slots__ = ("inner",)

    def __init__(self, inner: StateStorage) -> None:
        self.inner = inner

    @abstractmethod
    def encode_change(self, change: Change) -> Change:
        """Make the change that the inner storage gets.

        Args:
            change: what the caller writes.

        Raises:
            ValueTooLarge: a value is above the limit of the wrapper.
        """

    @abstractmethod
    def decode_state(self, key: StateKey, stored: Stored) -> Stored:
        """Make the state that the caller gets. It raises nothing: a damaged state says so.

        Args:
            key: the instance.
            stored: what the inner storage has loaded.
        """

    @abstractmethod
    def decode_segment(self, key: StateKey, segment: Segment) -> Segment:
        """Make the segment that the caller gets.

        Args:
            key: the instance.
            segment: what the inner storage has read.

        Raises:
            DamagedState: it is not what was written.
        """

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        decode = self.decode_state
        return {key: decode(key, stored) for key, stored in (await self.inner.load(keys)).items()}

    async def history(
        self,
        key: StateKey,
        *,
        after: int = 0,
        limit: int = 1000,
        sequences: Sequence[int] | None = None,
        outbox: bool = False,
    ) -> list[Segment]:
        found = await self.inner.history(key, after=after, limit=limit, sequences=sequences, outbox=outbox)
        return [self.decode_segment(key, segment) for segment in found]

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        encode = self.encode_change
        return await self.inner.commit([encode(each) if isinstance(each, Change) else each for each in changes])

    async def find(self, query: Query) -> Page:
        return await self.inner.find(query)

    async def count(self, query: Query) -> int:
        return await self.inner.count(query)

    async def purge(self, now: float, limit: int = 1000) -> int:
        return await self.inner.purge(now, limit)


class WrappedStorage(Storage):
    """Another storage, with `WrappedStates`. Closing it closes the other one.

    Tags are passed on as they are: they have no opaque values.

    Subclasses make the states in `__init__`, and say by how many bytes a value may grow.

    Args:
        inner: what is wrapped.
        states: the states of `inner`, wrapped.
    """

    __slots__ = ("capabilities", "inner", "states", "tags")

    overhead: ClassVar[int]
    """Bytes by which the wrapper may make a value larger."""

    def __init__(self, inner: Storage, states: WrappedStates) -> None:
        self.inner = inner
        self.states = states
        self.tags = inner.tags
        self.capabilities = self._derive_capabilities()

    async def prepare(self) -> None:
        """Prepare the inner storage. It may know its capabilities only now."""
        await self.inner.prepare()
        self.capabilities = self._derive_capabilities()

    async def diagnose(self) -> list[Diagnosis]:
        """What the inner storage says of itself, see `infinitic.diagnosis`; empty if nothing."""
        return await self.inner.diagnose() if isinstance(self.inner, Diagnosable) else []

    async def close(self) -> None:
        """Close the inner storage."""
        await self.inner.close()

    def _derive_capabilities(self) -> StorageCapabilities:
        inner = self.inner.capabilities
        return replace(inner, max_value=inner.max_value - self.overhead)
