"""The storage `postgres`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from infinitic_storages.sql.settings import PostgresSettings
from infinitic_storages.sql.storage import DEFAULT_DEDUPLICATION_WINDOW, SqlStorage

if TYPE_CHECKING:
    from infinitic_storages.sql.dialects.base import SqlDatabase


class PostgresStorage(SqlStorage):
    """States in one schema of a PostgreSQL database.

    Args:
        settings: where the server is.
        deduplication_window: seconds for which deduplication ids and remnants are kept; default is
            14 days.

    Raises:
        MissingDriverError: psycopg or SQLAlchemy is not installed.
    """

    Settings: ClassVar[type[PostgresSettings]] = PostgresSettings
    extra = "postgres"

    def __init__(
        self, settings: PostgresSettings, *, deduplication_window: float = DEFAULT_DEDUPLICATION_WINDOW
    ) -> None:
        self._settings = settings
        super().__init__(deduplication_window, settings.max_value, settings.pool_size, settings.deadline_seconds)

    @classmethod
    def from_settings(cls, settings: PostgresSettings, *, deduplication_window: float) -> Self:
        return cls(settings, deduplication_window=deduplication_window)

    def _open(self) -> SqlDatabase:
        from infinitic_storages.sql.dialects.postgres import PostgresDatabase

        return PostgresDatabase(self._settings)
