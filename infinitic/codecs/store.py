"""Where `ClaimCheck` keeps payloads: the interface of stores, and one in memory."""

from __future__ import annotations

from abc import ABC, abstractmethod


class ObjectStore(ABC):
    """Keeps objects by their names, for `ClaimCheck`: a directory, a bucket, a table.

    A name is the hash of its content, so an object never changes, and storing it twice is storing
    it once. Methods are called in threads, several at the same time, and in the thread of the event
    loop. They may raise anything if the store cannot be reached: it is tried again.

    Objects must stay as long as anybody may need them: see the page on large values.
    """

    __slots__ = ()

    @abstractmethod
    def put(self, name: str, data: bytes) -> None:
        """Keep an object. When this returns, it survives a crash of the machine.

        It may be there already: then only note that it is needed, so that it is not removed soon.

        Args:
            name: 64 hexadecimal digits.
            data: its content.
        """

    @abstractmethod
    def get(self, name: str) -> bytes | None:
        """Find an object. None: the store can be reached, and has no such object."""


class MemoryStore(ObjectStore):
    """Keeps objects in a dict, for tests."""

    __slots__ = ("objects",)

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        """The objects by their names."""

    def __repr__(self) -> str:
        return "MemoryStore()"

    def put(self, name: str, data: bytes) -> None:
        """Keep an object."""
        self.objects[name] = data

    def get(self, name: str) -> bytes | None:
        """Find an object."""
        return self.objects.get(name)
