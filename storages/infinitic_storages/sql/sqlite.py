"""The storage `sqlite`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from infinitic.errors import ConfigurationError
from infinitic_storages.sql.settings import SqliteSettings, Synchronous
from infinitic_storages.sql.storage import DEFAULT_HORIZON, SqlStorage

if TYPE_CHECKING:
    from infinitic_storages.sql.dialects.base import Database


class SqliteStorage(SqlStorage):
    """States in one SQLite file, for the processes of one machine.

    `:memory:` is refused: the storage `in_memory` is that. `horizon` is in seconds (14 days by default). With
    `synchronous` normal it is not durable: a power cut may undo what was written last.
    """

    Settings: ClassVar[type[SqliteSettings]] = SqliteSettings
    extra = "sqlite"

    def __init__(self, settings: SqliteSettings, *, horizon: float = DEFAULT_HORIZON) -> None:
        if str(settings.path) == ":memory:" or str(settings.path).startswith("file:"):
            raise ConfigurationError(
                f"The storage 'sqlite' needs the path of a file, not {str(settings.path)!r}: "
                "use the storage 'in_memory', which keeps everything in the process"
            )
        self._settings = settings
        durable = settings.synchronous is Synchronous.FULL
        super().__init__(horizon, settings.max_value, settings.pool_size, settings.deadline_seconds, durable=durable)

    @classmethod
    def from_settings(cls, settings: SqliteSettings, *, horizon: float) -> Self:
        return cls(settings, horizon=horizon)

    def _open(self) -> Database:
        from infinitic_storages.sql.dialects.sqlite import SqliteDatabase

        return SqliteDatabase(self._settings)
