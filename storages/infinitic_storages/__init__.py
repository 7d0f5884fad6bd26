"""The storages of Infinitic. They implement `infinitic.storage`.

`memory` is in one process, `redis` is a Redis server, and `sql` has PostgreSQL, MySQL, MariaDB and
SQLite. `compressed` wraps any of them. Import a module by its name: so only the driver that is used
is needed.
"""
