"""``infinitic migrate``: make or migrate the tables of the storage, as the first worker of a release would."""

from __future__ import annotations

import asyncio

import msgspec

from infinitic.cli.link import exits, load
from infinitic.cli.options import DEFAULT_CONFIG, Config
from infinitic.cli.output import Json, line, show
from infinitic.errors import ConfigurationError


class Migrated(msgspec.Struct):
    """The storage that this configuration names is ready."""

    ready: bool
    config: str


def command(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Create or migrate what the storage needs, under a lock. Workers do it as well: this is for those who may not."""

    async def migrate() -> None:
        storage = load(config).storage()
        if storage is None:
            raise ConfigurationError(f"{config} has no storage")
        async with storage:
            await storage.prepare()

    with exits():
        asyncio.run(migrate())
    show(Migrated(True, str(config)), as_json, lambda _: [line("The storage is ready")])
