"""What `prepare` asks the server, and what it does with the answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from redis.exceptions import ResponseError

from infinitic.storage import StorageConfigurationError, StorageUnavailable
from infinitic_storages.redis.connections import Connections, Script
from infinitic_storages.redis.errors import translate
from infinitic_storages.redis.permissions import check_permissions
from infinitic_storages.redis.scripts import SCHEMA, UPGRADE

OLDEST = (6, 2)

logger = logging.getLogger("infinitic.storages.redis")

_UPGRADE = Script(UPGRADE)

ASKED = ("appendonly", "appendfsync", "save", "maxmemory-policy")


async def prepare(connections: Connections, prefix: str) -> bool:
    """Check the server, and write the number of our layout.

    Args:
        connections: to the server.
        prefix: what our keys begin with.

    Returns:
        Whether what is written survives a crash of the server.

    Raises:
        StorageConfigurationError: the server cannot be used, or refuses a command.
        StorageUnavailable: it is a replica, or is away.
    """
    where = f"Redis at {connections.where}"
    info, *settings = await connections.run([("INFO", "ALL"), *[("CONFIG", "GET", name) for name in ASKED]])
    if isinstance(info, ResponseError):
        raise translate(info, connections.where) from info
    facts = parse_info(info)
    _check_server(facts, where)
    await _check_schema(connections, prefix, where)
    await check_permissions(connections, prefix)
    config = parse_config(ASKED, settings)
    _warn(facts, config, where)
    return config.get("appendonly") == "yes" and config.get("appendfsync") == "always"


def _check_server(facts: dict[str, str], where: str) -> None:
    if facts.get("cluster_enabled") == "1" or facts.get("redis_mode") == "cluster":
        raise StorageConfigurationError(
            f"{where} is a Redis Cluster, which is not supported: the keys of one change would be on several "
            "servers. Use one server, with replicas and Sentinel for failover"
        )
    version = facts.get("redis_version", "")
    if parse_version(version) < OLDEST:
        raise StorageConfigurationError(f"{where} has version {version or 'unknown'}; 6.2 or newer is needed")
    if facts.get("role") == "slave":
        raise StorageUnavailable(f"{where} is a replica: connect to the master, or by Sentinel")


async def _check_schema(connections: Connections, prefix: str, where: str) -> None:
    """Check the layout. SET … NX is the lock: one of many writes it, and all read the same."""
    key = f"{prefix}|schema"
    written, found = await connections.run([("SET", key, str(SCHEMA), "NX"), ("GET", key)])
    for reply in (written, found):
        if isinstance(reply, ResponseError):
            raise translate(reply, connections.where) from reply
    text = bytes(found or b"").decode(errors="replace")
    if not text.isdigit():
        raise StorageConfigurationError(
            f"{where}: the key {key} was not written by Infinitic; choose another `key_prefix`"
        )
    if int(text) > SCHEMA:
        raise StorageConfigurationError(
            f"{where}: the keys {prefix}|… have schema {text}, of a newer release; this release knows {SCHEMA}. "
            "Install the newer release, or choose another `key_prefix`"
        )
    if int(text) < SCHEMA:
        # Nothing has to be rewritten, see `scripts`.
        await connections.call(_UPGRADE, [(key, str(SCHEMA))])


def _warn(facts: dict[str, str], config: dict[str, str], where: str) -> None:
    append = config.get("appendonly", "yes" if facts.get("aof_enabled") == "1" else "no")
    if append != "yes" and config.get("save") == "":
        logger.warning(
            "%s keeps nothing on disk: workflows are lost when it stops. Set `appendonly yes`, and `appendfsync "
            "always` so that no crash loses what was written",
            where,
        )
    policy = config.get("maxmemory-policy", facts.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        logger.warning(
            "%s may evict the state of workflows when its memory is full (`maxmemory-policy %s`). Set `noeviction`",
            where,
            policy,
        )


def parse_version(text: str) -> tuple[int, int]:
    """The first two numbers of a version; (0, 0) if the text is not one."""
    parts = text.split(".")
    return (int(parts[0]), int(parts[1])) if len(parts) > 1 and parts[0].isdigit() and parts[1].isdigit() else (0, 0)


def parse_info(info: bytes) -> dict[str, str]:
    """Parse the reply to INFO."""
    lines = (line.partition(":") for line in info.decode(errors="replace").splitlines())
    return {name: value for name, colon, value in lines if colon}


def parse_config(names: Sequence[str], replies: Sequence[Any]) -> dict[str, str]:
    """Parse the replies to CONFIG GET.

    Values that are unknown or forbidden, as on managed servers, are left out.

    Args:
        names: of the parameters that were asked for.
        replies: in the same order.
    """
    answered = [
        (name, reply) for name, reply in zip(names, replies, strict=True) if not isinstance(reply, ResponseError)
    ]
    return {name: reply[1].decode(errors="replace") for name, reply in answered if len(reply) == 2}
