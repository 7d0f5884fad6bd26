"""A broker in one SQLite file, for the processes of one machine."""

from infinitic_transports.sqlite.settings import SqliteTransportSettings
from infinitic_transports.sqlite.transport import SqliteTransport

__all__ = ["SqliteTransport", "SqliteTransportSettings"]
