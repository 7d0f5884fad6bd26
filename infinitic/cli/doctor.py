"""``infinitic doctor``: can this machine work with what its configuration says? It declares and changes nothing."""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TypeVar

import msgspec
import typer
from rich.console import RenderableType

from infinitic import topics
from infinitic.cli.doctor_sight import (
    compare_clocks,
    look_at_code,
    look_at_instances,
    look_at_topic,
    look_at_versions,
)
from infinitic.cli.exits import FAILED
from infinitic.cli.link import Configuration, Project, exits, load, reach
from infinitic.cli.options import DEFAULT_CONFIG, Config
from infinitic.cli.output import Json, cell, line, show, status, table
from infinitic.clock import Clock, SystemClock
from infinitic.diagnosis import Diagnosable, Diagnosis, Level
from infinitic.errors import ConfigurationError, InfiniticError
from infinitic.storage import StateKey, Storage, StorageConfigurationError, StorageNotPrepared, StorageUnavailable
from infinitic.transport import Transport, TransportUnavailable

T = TypeVar("T")

SECONDS = 15.0
DRIVERS = ("pulsar-client", "httpx", "redis", "sqlalchemy", "psycopg", "pymysql", "zstandard")

_NOBODY = StateKey("infinitic-doctor", "infinitic-doctor")


class Examined(msgspec.Struct):
    """All findings. `healthy`: none is a failure."""

    healthy: bool
    checks: list[Diagnosis]


def command(config: Config = DEFAULT_CONFIG, as_json: Json = False) -> None:
    """Check this machine, the broker and the database, and say what to do. Changes nothing."""
    with exits():
        examined = asyncio.run(_doctor(config))
    show(examined, as_json, _render)
    if not examined.healthy:
        raise typer.Exit(FAILED)


async def _doctor(config: Path) -> Examined:
    configuration = load(config)
    project = configuration.project
    checks = [*machine(), Diagnosis("configuration", Level.OK, str(config)), *code(configuration)]
    transport = _made("broker", configuration.transport, checks)
    storage = _made("database", configuration.storage, checks)
    try:
        if transport is not None:
            checks += await broker(transport, project)
        if storage is not None:
            checks += await database(storage, project)
        if transport is not None and any(each.subject == "broker" and each.level is Level.OK for each in checks):
            checks += await versions(transport, storage, project)
        if storage is None and project.workflows and not any(each.subject == "database" for each in checks):
            checks.append(
                Diagnosis("database", Level.FAILURE, "the configuration has none", "workflows need one: add `storage`")
            )
    finally:
        if transport is not None:
            await transport.close()
        if storage is not None:
            await storage.close()
    checks += compare_clocks(checks)
    return Examined(all(each.level is not Level.FAILURE for each in checks), checks)


def code(configuration: Configuration) -> list[Diagnosis]:
    """Whether the classes of the configuration can be imported here. Nothing is said if they can."""
    try:
        configuration.import_classes()
    except ConfigurationError as error:
        return [
            Diagnosis(
                "code",
                Level.WARNING,
                str(error),
                "no worker starts on this machine: install the code, or mend its path",
            )
        ]
    return []


def _made(subject: str, make: Callable[[], T], checks: list[Diagnosis]) -> T | None:
    try:
        return make()
    except ConfigurationError as error:
        checks.append(Diagnosis(subject, Level.FAILURE, str(error), "mend the configuration, or install the driver"))
        return None


def machine() -> list[Diagnosis]:
    """Python, its hash seed, and the drivers that are installed."""
    seed = os.environ.get("PYTHONHASHSEED", "random")
    drivers = [f"{name} {found}" for name in DRIVERS if (found := _version(name))]
    return [
        Diagnosis("infinitic", Level.OK, f"{_version('infinitic') or '?'}, Python {platform.python_version()}"),
        Diagnosis(
            "hash seed",
            Level.OK,
            "random: the order of sets of text differs between processes" if seed == "random" else f"fixed: {seed}",
            "workflow code sorts a set before it goes over it" if seed == "random" else "",
        ),
        Diagnosis("drivers", Level.OK, ", ".join(drivers) or "none installed"),
    ]


async def broker(transport: Transport, project: Project, seconds: float = SECONDS) -> list[Diagnosis]:
    """Reach it, and look at the topics of the configuration."""
    try:
        await reach(transport, seconds)
    except InfiniticError as error:
        return [_unreached("broker", error)]  # one line: it would say the same of itself
    checks = [Diagnosis("broker", Level.OK, "answers"), *await _own("broker", transport, seconds)]
    for kind, names, make in (
        ("service", project.services, topics.service_executor),
        ("workflow", project.workflows, topics.workflow_engine),
    ):
        for name in names:
            subject = f"{kind} {name}"
            try:
                async with asyncio.timeout(seconds):
                    checks += await look_at_topic(transport, subject, f"--{kind} {name}", make(name))
                    if kind == "workflow":
                        checks += await look_at_code(transport, subject, f"--workflow {name}", name)
            except TimeoutError:
                checks.append(
                    Diagnosis(subject, Level.FAILURE, f"no answer within {seconds:g} s", "look at the broker")
                )
            except InfiniticError as error:
                checks.append(Diagnosis(subject, Level.FAILURE, _one_line(error), "look at the broker"))
    return checks


async def versions(
    transport: Transport, storage: Storage | None, project: Project, seconds: float = SECONDS
) -> list[Diagnosis]:
    """Instances that wait for the code of a version."""
    try:
        async with asyncio.timeout(seconds):
            return await look_at_versions(transport, storage, project)
    except StorageNotPrepared:
        return []  # it was told
    except (TimeoutError, InfiniticError) as error:
        message = f"whether code is missing cannot be told: {_one_line(error) or f'no answer within {seconds:g} s'}"
        return [Diagnosis("versions", Level.WARNING, message, "look at broker and database")]


async def database(
    storage: Storage, project: Project | None = None, seconds: float = SECONDS, clock: Clock | None = None
) -> list[Diagnosis]:
    """Reach it by a read that finds nothing; then count the instances that stand still."""
    try:
        await asyncio.wait_for(storage.states.load([_NOBODY]), seconds)
    except TimeoutError:
        return [_unreached("database", StorageUnavailable(f"no answer within {seconds:g} s"))]
    except StorageNotPrepared:
        checks = [Diagnosis("database", Level.WARNING, "answers, and has no tables yet", "the first worker makes them")]
    except InfiniticError as error:
        return [_unreached("database", error)]
    else:
        checks = [Diagnosis("database", Level.OK, "answers")]
    own = await _own("database", storage, seconds)
    if not own and checks[0].level is Level.OK and not storage.capabilities.durable:
        message, remedy = "answers, and forgets when it stops", "for production take another"
        checks = [Diagnosis("database", Level.WARNING, message, remedy)]
    return checks + own + await _instances(storage, project or Project(), seconds, clock or SystemClock())


async def _instances(storage: Storage, project: Project, seconds: float, clock: Clock) -> list[Diagnosis]:
    try:
        async with asyncio.timeout(seconds):
            return await look_at_instances(storage, project, clock.now())
    except StorageNotPrepared:
        return []  # it was told
    except StorageConfigurationError as error:
        return [Diagnosis("workflows", Level.FAILURE, _one_line(error), "correct the database, as the message says")]
    except (TimeoutError, InfiniticError) as error:
        message = f"cannot be counted: {_one_line(error) or f'no answer within {seconds:g} s'}"
        return [Diagnosis("workflows", Level.WARNING, message, "look at the database")]


async def _own(subject: str, adapter: Transport | Storage, seconds: float) -> list[Diagnosis]:
    """What the adapter says of itself, if it can."""
    if not isinstance(adapter, Diagnosable):
        return []
    try:
        return await asyncio.wait_for(adapter.diagnose(), seconds)
    except (TimeoutError, InfiniticError) as error:
        return [Diagnosis(subject, Level.FAILURE, f"cannot tell how it is: {_one_line(error) or 'no answer in time'}")]


def _unreached(subject: str, error: Exception) -> Diagnosis:
    if isinstance(error, TransportUnavailable | StorageUnavailable):
        remedy = "does it run, and is its address in the configuration right?"
    else:
        remedy = "correct the configuration, or the server, as the message says"
    return Diagnosis(subject, Level.FAILURE, _one_line(error), remedy)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _render(examined: Examined) -> list[RenderableType]:
    rows = table("CHECK", "", "FINDING", "WHAT TO DO")
    for each in examined.checks:
        rows.add_row(cell(each.subject), status(each.level.value), cell(each.message), cell(each.remedy))
    return [rows, line("Healthy." if examined.healthy else "Something does not work.")]
