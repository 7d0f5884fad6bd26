"""The SQL storages: PostgreSQL, MySQL and MariaDB, SQLite. Nothing here imports a driver before a storage is made."""
