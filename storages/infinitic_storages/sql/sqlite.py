"""The storage `sqlite`."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from infinitic.errors import ConfigurationError
from infinitic_storages.sql.settings import SqliteSettings, Synchronous
from infinitic_storages.sql.storage import DEFAULT_DEDUPLICATION_WINDOW, SqlStorage

if TYPE_CHECKING:
    from infinitic_storages.sql.dialects.base import SqlDatabase


class SqliteStorage(SqlStorage):
    """States in one SQLite file, for the processes of one machine.

    With `synchronous: normal` it is not durable: a power cut may undo what was written last.

    Args:
        settings: where the file is. `:memory:` is refused: use the storage `in_memory` for that.
        deduplication_window: seconds for which deduplication ids and remnants are kept; default is
            14 days.

    Raises:
        ConfigurationError: the path is not that of a file.
        MissingDriverError: SQLAlchemy is not installed.
    """

    Settings: ClassVar[type[SqliteSettings]] = SqliteSettings
    extra = "sqlite"

    def __init__(self, settings: SqliteSettings, *, deduplication_window: float = DEFAULT_DEDUPLICATION_WINDOW) -> None:
        if str(settings.path) == ":memory:" or str(settings.path).startswith("file:"):
            raise ConfigurationError(
                f"The storage 'sqlite' needs the path of a file, not {str(settings.path)!r}: "
                "use the storage 'in_memory', which keeps everything in the process"
            )
        self._settings = settings
        durable = settings.synchronous is Synchronous.FULL
        super().__init__(
            deduplication_window, settings.max_value, settings.pool_size, settings.deadline_seconds, durable=durable
        )

    @classmethod
    def from_settings(cls, settings: SqliteSettings, *, deduplication_window: float) -> Self:
        return cls(settings, deduplication_window=deduplication_window)

    def _open(self) -> SqlDatabase:
        from infinitic_storages.sql.dialects.sqlite import SqliteDatabase

        return SqliteDatabase(self._settings)
