"""``infinitic migrate``: create or migrate the tables, as the first worker of a release does."""

from __future__ import annotations

import asyncio

import msgspec

from infinitic.cli.error_handling import exit_on_error
from infinitic.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from infinitic.cli.output import make_line, show
from infinitic.cli.project import load_config
from infinitic.errors import ConfigurationError


class MigrationReport(msgspec.Struct):
    """The outcome of a migration. `config` is the file that names the storage."""

    ready: bool
    config: str


def command(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Create or migrate the tables, under a lock. Workers do the same when they start."""

    async def migrate() -> None:
        storage = load_config(config).make_storage()
        if storage is None:
            raise ConfigurationError(f"{config} has no storage, so there is nothing to migrate: add the key storage")
        async with storage:
            await storage.prepare()

    with exit_on_error():
        asyncio.run(migrate())
    show(MigrationReport(True, str(config)), as_json, lambda _: [make_line("The storage is ready")])
