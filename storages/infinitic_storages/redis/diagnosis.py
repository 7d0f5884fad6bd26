"""Checks the server, for `infinitic doctor`. It only reads."""

from __future__ import annotations

from redis.exceptions import ResponseError

from infinitic.clock import Clock
from infinitic.diagnosis import Diagnosis, Level, ok, skew
from infinitic_storages.redis.connections import Connections
from infinitic_storages.redis.errors import translate
from infinitic_storages.redis.scripts import SCHEMA
from infinitic_storages.redis.server import ASKED, OLDEST, parse_config, parse_info, parse_version

FULL = 0.8
"""The share of `maxmemory` at which somebody should act."""

_VERSION, _CLOCK, _SCHEMA, _DURABILITY, _MEMORY = "Redis version", "Redis clock", "schema", "durability", "memory"
_ASKED = (*ASKED, "maxmemory")


async def diagnose(connections: Connections, prefix: str, clock: Clock) -> list[Diagnosis]:
    """Check version, clock, durability, memory and schema. What the user may not see is left out.

    Args:
        connections: to the server.
        prefix: what our keys begin with.
        clock: the clock of this machine.
    """
    before = clock.now()
    commands = [("INFO", "ALL"), ("TIME",), ("GET", f"{prefix}|schema"), *[("CONFIG", "GET", name) for name in _ASKED]]
    info, time, schema, *settings = await connections.run(commands)
    middle = (before + clock.now()) / 2
    if isinstance(info, ResponseError):
        raise translate(info, connections.where) from info
    facts = parse_info(info)
    config = parse_config(_ASKED, settings)
    checks = [_check_version(facts)]
    if facts.get("cluster_enabled") == "1" or facts.get("redis_mode") == "cluster":
        checks.append(_fail("Redis", "it is a Redis Cluster", "use one server, with replicas and Sentinel"))
    if facts.get("role") == "slave":
        checks.append(_fail("Redis", "it is a replica", "connect to the master, or by Sentinel"))
    if not isinstance(time, ResponseError):
        checks.append(skew(_CLOCK, int(time[0]) + int(time[1]) / 1e6 - middle))
    checks.append(_check_durability(facts, config))
    checks += _check_memory(facts, config)
    if not isinstance(schema, ResponseError):
        checks.append(_check_schema(schema, prefix))
    return checks


def _check_version(facts: dict[str, str]) -> Diagnosis:
    version = facts.get("redis_version", "unknown")
    if parse_version(version) < OLDEST:
        return _fail(_VERSION, f"{version} is too old", f"{OLDEST[0]}.{OLDEST[1]} or newer is needed")
    return ok(_VERSION, version)


def _check_durability(facts: dict[str, str], config: dict[str, str]) -> Diagnosis:
    always = "set `appendonly yes` and `appendfsync always`"
    if facts.get("aof_last_write_status", "ok") != "ok":
        return _fail(_DURABILITY, "the last write of the append-only file failed", "look at its disk and its log")
    append = config.get("appendonly", "yes" if facts.get("aof_enabled") == "1" else "no")
    if append != "yes":
        saves = config.get("save")
        kept = "nothing is kept on disk" if saves == "" else "only snapshots are kept on disk"
        return Diagnosis(_DURABILITY, Level.WARNING, f"{kept}: workflows are lost when it stops", always)
    fsync = config.get("appendfsync")
    if fsync is None:
        return ok(_DURABILITY, "it has an append-only file; this user may not see how often it is flushed")
    if fsync != "always":
        message = f"appendfsync is {fsync}: a crash of the machine loses the last second or more"
        return Diagnosis(_DURABILITY, Level.WARNING, message, always)
    return ok(_DURABILITY, "a write waits for the disk")


def _check_memory(facts: dict[str, str], config: dict[str, str]) -> list[Diagnosis]:
    checks: list[Diagnosis] = []
    policy = config.get("maxmemory-policy", facts.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        message = f"maxmemory-policy is {policy}: the state of workflows may be evicted"
        checks.append(_fail(_MEMORY, message, "set `maxmemory-policy noeviction`"))
    used, limit = int(facts.get("used_memory", 0)), int(config.get("maxmemory", facts.get("maxmemory", 0)))
    if limit and used > FULL * limit:
        message = f"{used // 1024**2:,} of {limit // 1024**2:,} MiB are used"
        checks.append(Diagnosis(_MEMORY, Level.WARNING, message, "raise maxmemory, or keep closed workflows shorter"))
    return checks or [ok(_MEMORY, f"{used // 1024**2:,} MiB are used; nothing is evicted")]


def _check_schema(reply: bytes | None, prefix: str) -> Diagnosis:
    if reply is None:
        return Diagnosis(_SCHEMA, Level.WARNING, f"no key has the prefix {prefix} yet", "the first worker creates it")
    text = reply.decode(errors="replace")
    if not text.isdigit():
        return _fail(_SCHEMA, f"the key {prefix}|schema was not written by Infinitic", "choose another `key_prefix`")
    if int(text) > SCHEMA:
        message = f"version {text} is of a newer release; this release knows {SCHEMA} at most"
        return _fail(_SCHEMA, message, "upgrade infinitic, or choose another `key_prefix`")
    if int(text) < SCHEMA:
        message = f"version {text}, and this release has {SCHEMA}"
        return Diagnosis(_SCHEMA, Level.WARNING, message, "the first worker of this release migrates it")
    return ok(_SCHEMA, f"version {text}")


def _fail(subject: str, message: str, remedy: str) -> Diagnosis:
    return Diagnosis(subject, Level.FAILURE, message, remedy)
