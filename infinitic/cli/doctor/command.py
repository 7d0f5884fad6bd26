"""``infinitic doctor``: checks whether this machine can work with what its configuration says.

It declares, migrates and writes nothing.
"""

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

from infinitic.cli.doctor.servers import check_broker, check_database, check_versions, compare_clocks
from infinitic.cli.error_handling import exit_on_error
from infinitic.cli.exit_codes import FAILED
from infinitic.cli.options import DEFAULT_CONFIG, ConfigOption, JsonOption
from infinitic.cli.output import make_cell, make_line, make_status, make_table, show
from infinitic.cli.project import Project, load_config
from infinitic.config import Config
from infinitic.diagnosis import Diagnosis, Level
from infinitic.errors import ConfigurationError
from infinitic.worker.configured import import_services, import_workflows
from infinitic.worker.configured_listener import import_listener

T = TypeVar("T")

DRIVERS = ("pulsar-client", "httpx", "redis", "sqlalchemy", "psycopg", "pymysql", "zstandard")


class DoctorReport(msgspec.Struct):
    """All checks. `healthy`: none of them failed."""

    healthy: bool
    checks: list[Diagnosis]


def command(config: ConfigOption = DEFAULT_CONFIG, as_json: JsonOption = False) -> None:
    """Check this machine, the broker and the database, and say what to do. Changes nothing."""
    with exit_on_error():
        report = asyncio.run(_examine(config))
    show(report, as_json, _render)
    if not report.healthy:
        raise typer.Exit(FAILED)


async def _examine(path: Path) -> DoctorReport:
    config = load_config(path)
    project = Project.of(config)
    checks = [*check_machine(), Diagnosis("configuration", Level.OK, str(path)), *check_code(config)]
    transport = _make("broker", config.make_transport, checks)
    storage = _make("database", config.make_storage, checks)
    try:
        if transport is not None:
            checks += await check_broker(transport, project)
        if storage is not None:
            checks += await check_database(storage, project)
        if transport is not None and any(each.subject == "broker" and each.level is Level.OK for each in checks):
            checks += await check_versions(transport, storage, project)
        if storage is None and project.workflows and not any(each.subject == "database" for each in checks):
            message = "the configuration has no storage, and workflows need one"
            checks.append(Diagnosis("database", Level.FAILURE, message, "add the key storage"))
    finally:
        if transport is not None:
            await transport.close()
        if storage is not None:
            await storage.close()
    checks += compare_clocks(checks)
    return DoctorReport(all(each.level is not Level.FAILURE for each in checks), checks)


def check_machine() -> list[Diagnosis]:
    """Report the release of Python, its hash seed, and the drivers that are installed."""
    seed = os.environ.get("PYTHONHASHSEED", "random")
    drivers = [f"{name} {found}" for name in DRIVERS if (found := _find_version(name))]
    if seed == "random":
        message = "random: a set of texts has another order in each process"
        hash_seed = Diagnosis("hash seed", Level.OK, message, "sort sets in workflow code before going over them")
    else:
        hash_seed = Diagnosis("hash seed", Level.OK, f"fixed: {seed}")
    return [
        Diagnosis("infinitic", Level.OK, f"{_find_version('infinitic') or '?'}, Python {platform.python_version()}"),
        hash_seed,
        Diagnosis("drivers", Level.OK, ", ".join(drivers) or "none is installed"),
    ]


def check_code(config: Config) -> list[Diagnosis]:
    """Check whether the classes of the configuration can be imported. If so, nothing is said."""
    found: list[Diagnosis] = []
    for make in (import_services, import_workflows, import_listener, Config.make_codec, Config.make_middleware):
        try:
            make(config)
        except ConfigurationError as error:
            remedy = "no worker can start on this machine: install the code, or correct the path"
            found.append(Diagnosis("code", Level.WARNING, str(error), remedy))
    return found


def _make(subject: str, make: Callable[[], T], checks: list[Diagnosis]) -> T | None:
    try:
        return make()
    except ConfigurationError as error:
        remedy = "correct the configuration, or install the driver"
        checks.append(Diagnosis(subject, Level.FAILURE, str(error), remedy))
        return None


def _find_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _render(report: DoctorReport) -> list[RenderableType]:
    rows = make_table("CHECK", "", "FINDING", "WHAT TO DO")
    for each in report.checks:
        rows.add_row(
            make_cell(each.subject), make_status(each.level.value), make_cell(each.message), make_cell(each.remedy)
        )
    return [rows, make_line("Healthy." if report.healthy else "At least one check failed.")]
