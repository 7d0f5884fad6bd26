"""Checks whether the user may run the commands of the scripts.

A script that is refused midway would leave a change half written.
"""

from __future__ import annotations

from redis.exceptions import NoPermissionError, ResponseError

from infinitic.storage import StorageConfigurationError
from infinitic_storages.redis.connections import Command, Connections, Script

_NOTHING = Script("return 0")


def list_trials(key: str) -> list[Command]:
    """List each command of the scripts, on a scratch key that they do not leave behind."""
    return [
        ("HSET", key, "f", "0"),
        ("HGET", key, "f"),
        ("HMGET", key, "f"),
        ("HDEL", key, "f"),
        ("UNLINK", key),
        ("DEL", key),
        ("ZADD", key, "XX", "0", "m"),
        ("ZREM", key, "m"),
        ("ZSCORE", key, "m"),
        ("ZCOUNT", key, "0", "0"),
        ("ZREVRANGE", key, "0", "0"),
        ("ZRANGEBYSCORE", key, "0", "0"),
        ("ZRANGEBYLEX", key, "-", "+"),
        ("SCRIPT", "LOAD", _NOTHING.text),
        _NOTHING.command(),
    ]


async def check_permissions(connections: Connections, prefix: str) -> None:
    """Try out each command.

    Args:
        connections: to the server.
        prefix: what our keys begin with.

    Raises:
        StorageConfigurationError: some are refused. The text names them.
    """
    commands = list_trials(f"{prefix}|check")
    refused: dict[str, str] = {}
    for command, reply in zip(commands, await connections.run(commands), strict=True):
        if isinstance(reply, NoPermissionError) or _is_unknown(reply):
            name = "SCRIPT LOAD" if command[0] == "SCRIPT" else str(command[0])
            refused.setdefault(name, str(reply))
    if refused:
        raise StorageConfigurationError(
            f"Redis at {connections.where} does not permit {', '.join(refused)} ({next(iter(refused.values()))}): "
            f"give the user of the storage +@all but -@dangerous, +info, and its keys ~{prefix}|*"
        )


def _is_unknown(reply: object) -> bool:
    """Whether the server does not know a command, because it was renamed."""
    return isinstance(reply, ResponseError) and str(reply).startswith("unknown command")
