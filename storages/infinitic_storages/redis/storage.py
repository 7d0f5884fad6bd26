"""The Redis storage: one Lua script for each change, and one round trip for a batch."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel

from infinitic.clock import SystemClock
from infinitic.diagnosis import Diagnosis
from infinitic.errors import MissingDriverError
from infinitic.storage import Storage, StorageCapabilities
from infinitic_storages.redis.settings import RedisSettings

DAY = 86_400.0


class RedisStorage(Storage):
    """A connection to a Redis server, made when it is first used. It belongs to one event loop.

    Whether what is written survives a crash depends on the server: it has to have `appendonly yes`
    and `appendfsync always`. That is known after `prepare`; until then `capabilities.durable` is
    False.

    Args:
        settings: where the server is; by default a Redis on this machine.
        deduplication_window: seconds for which deduplication ids and remnants are kept.

    Raises:
        MissingDriverError: the driver is not installed.
    """

    Settings: ClassVar[type[BaseModel]] = RedisSettings

    def __init__(self, settings: RedisSettings | None = None, *, deduplication_window: float = 14 * DAY) -> None:
        try:
            from infinitic_storages.redis.connections import Connections
            from infinitic_storages.redis.diagnosis import diagnose
            from infinitic_storages.redis.server import prepare
            from infinitic_storages.redis.states import RedisStates
            from infinitic_storages.redis.tags import RedisTags
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "redis":
                raise
            raise MissingDriverError("The storage 'redis'", "redis", error.name) from error
        settings = settings or RedisSettings()
        self._prefix = settings.key_prefix
        self._connections = Connections(settings)
        self._prepare = prepare
        self._diagnose = diagnose
        self.states = RedisStates(self._connections, settings, deduplication_window)
        self.tags = RedisTags(self._connections, settings.key_prefix, deduplication_window)
        self.capabilities = StorageCapabilities(
            max_value=settings.max_value, durable=False, deduplication_window=deduplication_window
        )

    @classmethod
    def from_settings(cls, settings: Any, *, deduplication_window: float) -> Self:
        """Make a storage, see `infinitic.plugins.StoragePlugin`. It does not connect."""
        return cls(settings, deduplication_window=deduplication_window)

    async def prepare(self) -> None:
        """Check the server, see `Storage.prepare`. Now it is known whether it is durable."""
        durable = await self._prepare(self._connections, self._prefix)
        kept = self.capabilities
        self.capabilities = StorageCapabilities(
            max_value=kept.max_value, durable=durable, deduplication_window=kept.deduplication_window
        )

    async def diagnose(self) -> list[Diagnosis]:
        """Check the server, see `infinitic.diagnosis`."""
        return await self._diagnose(self._connections, self._prefix, SystemClock())

    async def close(self) -> None:
        await self._connections.close()
