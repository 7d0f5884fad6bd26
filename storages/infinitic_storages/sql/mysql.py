"""The storage `mysql`, for MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from infinitic_storages.sql.settings import MysqlSettings
from infinitic_storages.sql.storage import DEFAULT_DEDUPLICATION_WINDOW, SqlStorage

if TYPE_CHECKING:
    from infinitic_storages.sql.dialects.base import SqlDatabase


class MysqlStorage(SqlStorage):
    """States in one database of a MySQL or MariaDB server.

    The `max_allowed_packet` of the server limits values: see `capabilities` after `prepare`.

    Args:
        settings: where the server is.
        deduplication_window: seconds for which deduplication ids and remnants are kept; default is
            14 days.

    Raises:
        MissingDriverError: PyMySQL or SQLAlchemy is not installed.
    """

    Settings: ClassVar[type[MysqlSettings]] = MysqlSettings
    extra = "mysql"

    def __init__(self, settings: MysqlSettings, *, deduplication_window: float = DEFAULT_DEDUPLICATION_WINDOW) -> None:
        self._settings = settings
        super().__init__(deduplication_window, settings.max_value, settings.pool_size, settings.deadline_seconds)

    @classmethod
    def from_settings(cls, settings: MysqlSettings, *, deduplication_window: float) -> Self:
        return cls(settings, deduplication_window=deduplication_window)

    def _open(self) -> SqlDatabase:
        from infinitic_storages.sql.dialects.mysql import MysqlDatabase

        return MysqlDatabase(self._settings)
