"""In-memory storages that can be broken: a server that can be killed, links that suspend."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from infinitic.storage import (
    Change,
    Claim,
    Outcome,
    Page,
    Published,
    Query,
    Segment,
    StateKey,
    StateStorage,
    StorageCapabilities,
    StorageUnavailable,
    Stored,
    TagChange,
    TagKey,
    TagStorage,
)
from infinitic_storages.memory import Database, InMemoryStorage
from infinitic_testing.conformance import StorageBackend, StorageConformance

Kind = TypeVar("Kind", bound=type)


class Server(Database):
    """A database that can be down. It keeps what it has, which passes for a disk."""

    def __init__(self) -> None:
        super().__init__(max_value=1024 * 1024)
        self.up = True
        self.tables = False  # whether someone has prepared it

    def crash(self) -> None:
        self.up = False

    def wipe(self) -> None:
        self._rows.clear()
        self._expiring.clear()
        self._remnants.clear()
        self.tags.clear()

    def restart(self) -> None:
        self.up = True


class Link(StateStorage):
    """The verbs of one connection. `pause` is where a verb suspends, as on a socket."""

    def __init__(self, inner: StateStorage, server: Server) -> None:
        self.inner = inner
        self.server = server

    async def pause(self) -> None:
        await asyncio.sleep(0)
        if not self.server.up:
            raise StorageUnavailable("the server is down")

    async def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        await self.pause()
        return await self.inner.load(keys)

    async def history(self, key: StateKey, **options: Any) -> list[Segment]:
        await self.pause()
        return await self.inner.history(key, **options)

    async def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        await self.pause()
        return await self.inner.commit(changes)

    async def find(self, query: Query) -> Page:
        await self.pause()
        return await self.inner.find(query)

    async def purge(self, now: float, limit: int = 1000) -> int:
        await self.pause()
        return await self.inner.purge(now, limit)


class TagLink(TagStorage):
    """The verbs of tags of one connection. `pause` is where a verb suspends."""

    def __init__(self, inner: TagStorage, server: Server) -> None:
        self.inner = inner
        self.server = server

    async def pause(self) -> None:
        await asyncio.sleep(0)
        if not self.server.up:
            raise StorageUnavailable("the server is down")

    async def update(self, changes: Sequence[TagChange]) -> None:
        await self.pause()
        await self.inner.update(changes)

    async def members(self, key: TagKey, **options: Any) -> list[str]:
        await self.pause()
        return await self.inner.members(key, **options)

    async def count(self, key: TagKey) -> int:
        await self.pause()
        return await self.inner.count(key)

    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        await self.pause()
        return await self.inner.claim(key, id, version, at)

    async def purge(self, now: float, limit: int = 1000) -> int:
        await self.pause()
        return await self.inner.purge(now, limit)


class Connection(InMemoryStorage):
    """A storage whose verbs suspend, and which says that it is durable."""

    link: type[Link] = Link
    tag_link: type[TagLink] = TagLink

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self.server = server
        self.states: StateStorage = self.link(self.states, server)
        self.tags: TagStorage = self.tag_link(self.tags, server)
        self.capabilities = StorageCapabilities(server.max_value, True, server.deduplication_window)


class Backend(StorageBackend):
    """A server, and connections to it."""

    can_crash = True

    def __init__(self, server: type[Server], connection: type[Connection]) -> None:
        self.server = server()
        self.connection = connection

    def connect(self) -> InMemoryStorage:
        return self.connection(self.server)

    async def crash(self) -> None:
        self.server.crash()

    async def restart(self) -> None:
        self.server.restart()


class OnSound(StorageConformance):
    """The suite on `server` and `connection`. Nothing is broken, so every rule must hold."""

    server: type[Server] = Server
    connection: type[Connection] = Connection
    patience = 5.0
    seeds = (1, 2, 3)

    def backend(self) -> StorageBackend:
        return Backend(self.server, self.connection)


@dataclass(frozen=True)
class Mutant:
    """`suite` runs the rules on what is broken. Each of `kills` must fail; others may."""

    name: str
    fault: str
    kills: tuple[str, ...]
    suite: type[StorageConformance]


MUTANTS: list[Mutant] = []


def broken(*kills: str) -> Callable[[Kind], Kind]:
    """Mark a server, link or connection as broken in a way that these rules find.

    Its docstring says how.
    """

    def register(kind: Kind) -> Kind:
        if issubclass(kind, Server):
            seam: dict[str, type] = {"server": kind}
        elif issubclass(kind, Link):
            seam = {"connection": type(kind.__name__, (Connection,), {"link": kind})}
        elif issubclass(kind, TagLink):
            seam = {"connection": type(kind.__name__, (Connection,), {"tag_link": kind})}
        else:
            seam = {"connection": kind}
        fault = (kind.__doc__ or "").strip().removesuffix(".")
        MUTANTS.append(Mutant(kind.__name__, fault, kills, type(f"On{kind.__name__}", (OnSound,), seam)))
        return kind

    return register
