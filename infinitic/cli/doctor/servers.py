"""Checks of the broker and the database: whether they answer, and what they say of themselves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import combinations

from infinitic import topics
from infinitic.cli.connection import reach_broker
from infinitic.cli.doctor.waiting_work import (
    check_event_topic,
    check_executor_topic,
    check_instances,
    check_tag_topic,
    check_topic,
    find_missing_versions,
)
from infinitic.cli.project import Project
from infinitic.clock import Clock, SystemClock
from infinitic.diagnosis import Diagnosable, Diagnosis, Level
from infinitic.errors import InfiniticError
from infinitic.storage import StateKey, Storage, StorageConfigurationError, StorageNotPrepared, StorageUnavailable
from infinitic.transport import Transport, TransportUnavailable

SECONDS = 15.0
"""How long a server may take to answer."""

MAX_CLOCK_DIFFERENCE = 2.0
"""How many seconds the clocks of two servers may differ, as far as that can be measured."""

# No instance has this key: reading it shows that the database answers.
_NO_INSTANCE = StateKey("infinitic-doctor", "infinitic-doctor")


async def check_broker(transport: Transport, project: Project, seconds: float = SECONDS) -> list[Diagnosis]:
    """Check whether the broker answers, and what waits in the topics of the configuration.

    Args:
        transport: the connection to the broker.
        project: the services and workflows of the configuration.
        seconds: how long each answer may take.
    """
    try:
        await reach_broker(transport, seconds)
    except InfiniticError as error:
        # Its own diagnosis would say the same once more.
        return [_report_unreachable("broker", error)]
    checks = [Diagnosis("broker", Level.OK, "answers"), *await _diagnose("broker", transport, seconds)]
    for kind, names, make_topic in (
        ("service", project.services, topics.service_executor),
        ("workflow", project.workflows, topics.workflow_engine),
    ):
        for name in names:
            subject = f"{kind} {name}"
            try:
                async with asyncio.timeout(seconds):
                    checks += await check_topic(transport, subject, f"--{kind} {name}", make_topic(name))
                    if kind == "workflow":
                        checks += await check_executor_topic(transport, subject, f"--workflow {name}", name)
                    make_tag_topic = topics.workflow_tag if kind == "workflow" else topics.service_tag
                    checks += await check_tag_topic(transport, subject, f"--{kind} {name}", make_tag_topic(name))
                    make_event_topic = topics.workflow_events if kind == "workflow" else topics.service_events
                    checks += await check_event_topic(transport, subject, f"--{kind} {name}", make_event_topic(name))
            except TimeoutError:
                message = f"the broker did not answer within {seconds:g} s"
                checks.append(Diagnosis(subject, Level.FAILURE, message, "look at the broker"))
            except InfiniticError as error:
                checks.append(Diagnosis(subject, Level.FAILURE, _put_in_one_line(error), "look at the broker"))
    return checks


async def check_versions(
    transport: Transport, storage: Storage | None, project: Project, seconds: float = SECONDS
) -> list[Diagnosis]:
    """Check whether instances wait for the code of a version that no worker has.

    Args:
        transport: the connection to the broker.
        storage: the database; None if the configuration has none.
        project: the workflows of the configuration.
        seconds: how long all this may take.
    """
    try:
        async with asyncio.timeout(seconds):
            return await find_missing_versions(transport, storage, project)
    except StorageNotPrepared:
        # The check of the database has said so.
        return []
    except (TimeoutError, InfiniticError) as error:
        reason = _put_in_one_line(error) or f"no answer within {seconds:g} s"
        message = f"it cannot be found out whether code of a version is missing: {reason}"
        return [Diagnosis("versions", Level.WARNING, message, "look at the broker and the database")]


async def check_database(
    storage: Storage, project: Project | None = None, seconds: float = SECONDS, clock: Clock | None = None
) -> list[Diagnosis]:
    """Check whether the database answers, and count the instances that do not proceed.

    Args:
        storage: the database.
        project: the workflows of the configuration; without it no instances are counted.
        seconds: how long each answer may take.
        clock: the time of this machine.
    """
    try:
        await asyncio.wait_for(storage.states.load([_NO_INSTANCE]), seconds)
    except TimeoutError:
        return [_report_unreachable("database", StorageUnavailable(f"no answer within {seconds:g} s"))]
    except StorageNotPrepared:
        message, remedy = "answers, and has no tables yet", "nothing: the first worker creates them"
        checks = [Diagnosis("database", Level.WARNING, message, remedy)]
    except InfiniticError as error:
        return [_report_unreachable("database", error)]
    else:
        checks = [Diagnosis("database", Level.OK, "answers")]
    own = await _diagnose("database", storage, seconds)
    if not own and checks[0].level is Level.OK and not storage.capabilities.durable:
        message, remedy = "answers, and loses everything when it stops", "use another one in production"
        checks = [Diagnosis("database", Level.WARNING, message, remedy)]
    return checks + own + await _check_instances(storage, project or Project(), seconds, clock or SystemClock())


async def _check_instances(storage: Storage, project: Project, seconds: float, clock: Clock) -> list[Diagnosis]:
    try:
        async with asyncio.timeout(seconds):
            return await check_instances(storage, project, clock.now())
    except StorageNotPrepared:
        # The check of the database has said so.
        return []
    except StorageConfigurationError as error:
        remedy = "correct the database, as the message says"
        return [Diagnosis("workflows", Level.FAILURE, _put_in_one_line(error), remedy)]
    except (TimeoutError, InfiniticError) as error:
        message = f"cannot be counted: {_put_in_one_line(error) or f'no answer within {seconds:g} s'}"
        return [Diagnosis("workflows", Level.WARNING, message, "look at the database")]


async def _diagnose(subject: str, adapter: Transport | Storage, seconds: float) -> list[Diagnosis]:
    """Return what an adapter says of itself, if it can say anything."""
    if not isinstance(adapter, Diagnosable):
        return []
    try:
        return await asyncio.wait_for(adapter.diagnose(), seconds)
    except (TimeoutError, InfiniticError) as error:
        reason = _put_in_one_line(error) or f"no answer within {seconds:g} s"
        return [Diagnosis(subject, Level.FAILURE, f"its own checks failed: {reason}", f"look at the {subject}")]


def _report_unreachable(subject: str, error: Exception) -> Diagnosis:
    if isinstance(error, TransportUnavailable | StorageUnavailable):
        remedy = "check that it runs, and that its address in the configuration is right"
    else:
        remedy = "correct the configuration or the server, as the message says"
    return Diagnosis(subject, Level.FAILURE, _put_in_one_line(error), remedy)


def _put_in_one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def compare_clocks(checks: Sequence[Diagnosis]) -> list[Diagnosis]:
    """Compare the clocks of servers with each other.

    Each may be close enough to this machine, and still too far from the other.

    Args:
        checks: the checks so far; those of servers say how far their clock is ahead.
    """
    measured = [each for each in checks if each.ahead is not None]
    differences: list[Diagnosis] = []
    for one, other in combinations(measured, 2):
        apart = (one.ahead or 0.0) - (other.ahead or 0.0)
        if abs(apart) >= MAX_CLOCK_DIFFERENCE and one.level is other.level is Level.OK:
            relation = "ahead of" if apart > 0 else "behind"
            message = f"the {one.subject} is {abs(apart):.1f} s {relation} the {other.subject}"
            differences.append(Diagnosis("clocks", Level.WARNING, message, "synchronise both with NTP"))
    return differences
