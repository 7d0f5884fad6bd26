"""The storage `mysql`, for MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from infinitic_storages.sql.settings import MysqlSettings
from infinitic_storages.sql.storage import DEFAULT_HORIZON, SqlStorage

if TYPE_CHECKING:
    from infinitic_storages.sql.dialects.base import Database


class MysqlStorage(SqlStorage):
    """States in one database of a MySQL or MariaDB server. `horizon` is in seconds (14 days by default).

    The server's `max_allowed_packet` limits values: see `capabilities` after `prepare`.
    """

    Settings: ClassVar[type[MysqlSettings]] = MysqlSettings
    extra = "mysql"

    def __init__(self, settings: MysqlSettings, *, horizon: float = DEFAULT_HORIZON) -> None:
        self._settings = settings
        super().__init__(horizon, settings.max_value, settings.pool_size, settings.deadline_seconds)

    @classmethod
    def from_settings(cls, settings: MysqlSettings, *, horizon: float) -> Self:
        return cls(settings, horizon=horizon)

    def _open(self) -> Database:
        from infinitic_storages.sql.dialects.mysql import MysqlDatabase

        return MysqlDatabase(self._settings)
