"""How the server is. Only reads."""

from __future__ import annotations

from redis.exceptions import ResponseError

from infinitic.clock import Clock
from infinitic.diagnosis import Diagnosis, Level, ok, skew
from infinitic_storages.redis.connections import Connections
from infinitic_storages.redis.errors import translate
from infinitic_storages.redis.scripts import SCHEMA
from infinitic_storages.redis.server import ASKED, OLDEST, config_of, facts_of, version_of

FULL = 0.8
"""Share of `maxmemory` from which on it is time to act."""

_VERSION, _CLOCK, _SCHEMA, _DURABILITY, _MEMORY = "Redis version", "Redis clock", "schema", "durability", "memory"
_ASKED = (*ASKED, "maxmemory")


async def diagnose(connections: Connections, prefix: str, clock: Clock) -> list[Diagnosis]:
    """The findings. What the user may not see is left out."""
    before = clock.now()
    commands = [("INFO", "ALL"), ("TIME",), ("GET", f"{prefix}|schema"), *[("CONFIG", "GET", name) for name in _ASKED]]
    info, time, schema, *settings = await connections.run(commands)
    middle = (before + clock.now()) / 2
    if isinstance(info, ResponseError):
        raise translate(info, connections.where) from info
    facts = facts_of(info)
    config = config_of(_ASKED, settings)
    checks = [_version(facts)]
    if facts.get("cluster_enabled") == "1" or facts.get("redis_mode") == "cluster":
        checks.append(_bad("Redis", "it is a Redis Cluster", "use one server, with replicas and Sentinel"))
    if facts.get("role") == "slave":
        checks.append(_bad("Redis", "it is a replica", "connect to the master, or by Sentinel"))
    if not isinstance(time, ResponseError):
        checks.append(skew(_CLOCK, int(time[0]) + int(time[1]) / 1e6 - middle))
    checks.append(_durability(facts, config))
    checks += _memory(facts, config)
    if not isinstance(schema, ResponseError):
        checks.append(_schema(schema, prefix))
    return checks


def _version(facts: dict[str, str]) -> Diagnosis:
    version = facts.get("redis_version", "unknown")
    if version_of(version) < OLDEST:
        return _bad(_VERSION, f"{version} is too old", f"{OLDEST[0]}.{OLDEST[1]} or newer is needed")
    return ok(_VERSION, version)


def _durability(facts: dict[str, str], config: dict[str, str]) -> Diagnosis:
    always = "set `appendonly yes` and `appendfsync always`"
    if facts.get("aof_last_write_status", "ok") != "ok":
        return _bad(_DURABILITY, "the last write of the append-only file failed", "look at its disk and its log")
    append = config.get("appendonly", "yes" if facts.get("aof_enabled") == "1" else "no")
    if append != "yes":
        saves = config.get("save")
        kept = "nothing is kept on disk" if saves == "" else "only snapshots are kept on disk"
        return Diagnosis(_DURABILITY, Level.WARNING, f"{kept}: workflows are lost when it stops", always)
    fsync = config.get("appendfsync")
    if fsync is None:
        return ok(_DURABILITY, "it has an append-only file; how often that is flushed may not be seen")
    if fsync != "always":
        message = f"appendfsync is {fsync}: a crash of the machine loses the last second or more"
        return Diagnosis(_DURABILITY, Level.WARNING, message, always)
    return ok(_DURABILITY, "a write waits for the disk")


def _memory(facts: dict[str, str], config: dict[str, str]) -> list[Diagnosis]:
    checks: list[Diagnosis] = []
    policy = config.get("maxmemory-policy", facts.get("maxmemory_policy", "noeviction"))
    if policy != "noeviction":
        message = f"maxmemory-policy is {policy}: the state of workflows may be evicted"
        checks.append(_bad(_MEMORY, message, "set `maxmemory-policy noeviction`"))
    used, limit = int(facts.get("used_memory", 0)), int(config.get("maxmemory", facts.get("maxmemory", 0)))
    if limit and used > FULL * limit:
        message = f"{used // 1024**2:,} of {limit // 1024**2:,} MiB are used"
        checks.append(Diagnosis(_MEMORY, Level.WARNING, message, "raise maxmemory, or keep closed workflows shorter"))
    return checks or [ok(_MEMORY, f"{used // 1024**2:,} MiB are used; nothing is evicted")]


def _schema(reply: bytes | None, prefix: str) -> Diagnosis:
    if reply is None:
        return Diagnosis(_SCHEMA, Level.WARNING, f"nothing has the prefix {prefix} yet", "the first worker marks it")
    text = reply.decode(errors="replace")
    if not text.isdigit():
        return _bad(_SCHEMA, f"the key {prefix}|schema is not of Infinitic", "choose another `key_prefix`")
    if int(text) > SCHEMA:
        message = f"version {text} is of a newer release; this one knows {SCHEMA} at most"
        return _bad(_SCHEMA, message, "upgrade infinitic, or choose another `key_prefix`")
    if int(text) < SCHEMA:
        message = f"version {text}, and this release has {SCHEMA}"
        return Diagnosis(_SCHEMA, Level.WARNING, message, "the first worker of this release migrates it")
    return ok(_SCHEMA, f"version {text}")


def _bad(subject: str, message: str, remedy: str) -> Diagnosis:
    return Diagnosis(subject, Level.FAILURE, message, remedy)
