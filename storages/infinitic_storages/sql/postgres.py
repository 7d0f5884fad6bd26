"""The storage `postgres`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from infinitic_storages.sql.settings import PostgresSettings
from infinitic_storages.sql.storage import DEFAULT_HORIZON, SqlStorage

if TYPE_CHECKING:
    from infinitic_storages.sql.dialects.base import Database


class PostgresStorage(SqlStorage):
    """States in one schema of a PostgreSQL database. `horizon` is in seconds (14 days by default)."""

    Settings: ClassVar[type[PostgresSettings]] = PostgresSettings
    extra = "postgres"

    def __init__(self, settings: PostgresSettings, *, horizon: float = DEFAULT_HORIZON) -> None:
        self._settings = settings
        super().__init__(horizon, settings.max_value, settings.pool_size, settings.deadline_seconds)

    @classmethod
    def from_settings(cls, settings: PostgresSettings, *, horizon: float) -> Self:
        return cls(settings, horizon=horizon)

    def _open(self) -> Database:
        from infinitic_storages.sql.dialects.postgres import PostgresDatabase

        return PostgresDatabase(self._settings)
