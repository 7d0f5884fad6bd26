"""The SQL storages: PostgreSQL, MySQL and MariaDB, SQLite.

No driver is imported before a storage is made.
"""
