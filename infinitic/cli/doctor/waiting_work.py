"""Checks of messages and workflows: who consumes them, what waits, and what does not proceed."""

from __future__ import annotations

from infinitic import topics
from infinitic.cli.output import format_count
from infinitic.cli.project import Project
from infinitic.definitions.workflow_spec import spec_of
from infinitic.diagnosis import Diagnosis, Level, ok
from infinitic.storage import Flag, Query, Storage, WorkflowStatus
from infinitic.topics import Topic
from infinitic.transport import SubscriptionStats, Transport
from infinitic.worker.listeners import SUBSCRIPTION_PREFIX

MAX_COUNT = 1000
"""Up to how many instances are counted."""

MAX_PAGES = 10
"""How many pages of `MAX_COUNT` instances are looked through for their versions."""

MAX_GUESSED_VERSION = 50
"""Up to this version, all earlier versions are looked at too: old instances have them."""

OVERDUE_SECONDS = 60.0
"""How late a timer may be before it is reported."""


async def check_topic(transport: Transport, subject: str, option: str, topic: Topic) -> list[Diagnosis]:
    """Check who consumes a topic, what waits in it, and its dead letters.

    Args:
        transport: the connection to the broker.
        subject: what the checks are about.
        option: the option of `infinitic dead-letters` for it, such as ``--service Payments``.
        topic: the topic of a service, or of the state engine of a workflow.
    """
    stats = await _fetch_stats(transport, topic)
    if stats is None:
        remedy = "nothing: the first worker or client creates it"
        checks = [Diagnosis(subject, Level.WARNING, "has no topic yet", remedy)]
    elif stats.consumers:
        consumers = format_count(stats.consumers, "consumer")
        checks = [ok(subject, f"{consumers}, {_format_backlog(stats, 'message')} waiting")]
    else:
        message = f"no consumer, {_format_backlog(stats, 'message')} waiting"
        checks = [Diagnosis(subject, Level.WARNING, message, "start a worker that hosts it")]
    return checks + await _check_dead_letters(transport, subject, option, topic)


async def check_executor_topic(transport: Transport, subject: str, option: str, name: str) -> list[Diagnosis]:
    """Check whether activations wait for workflow code that runs on other workers.

    There is something to say only if some wait and nobody consumes them.

    Args:
        transport: the connection to the broker.
        subject: what the checks are about.
        option: the option of `infinitic dead-letters` for it.
        name: the name of the workflow.
    """
    topic = topics.workflow_executor(name)
    stats = await _fetch_stats(transport, topic)
    checks: list[Diagnosis] = []
    if stats is not None and not stats.consumers and stats.backlog + stats.unacked:
        message = f"{_format_backlog(stats, 'activation')} waiting, and no worker runs the code of the workflow"
        checks.append(Diagnosis(subject, Level.WARNING, message, "start a worker that hosts its executor"))
    return checks + await _check_dead_letters(transport, subject, option, topic)


async def check_tag_topic(transport: Transport, subject: str, option: str, topic: Topic) -> list[Diagnosis]:
    """Check whether messages about tags and custom ids wait for a tag engine.

    There is something to say only if some wait and nobody consumes them. Arguments are those of
    `check_topic`.
    """
    stats = await _fetch_stats(transport, topic)
    checks: list[Diagnosis] = []
    if stats is not None and not stats.consumers and stats.backlog + stats.unacked:
        message = (
            f"{_format_backlog(stats, 'message')} about tags or custom ids waiting, and no worker has its tag engine"
        )
        checks.append(Diagnosis(subject, Level.WARNING, message, "start a worker that hosts it: the key `tag_engine`"))
    return checks + await _check_dead_letters(transport, subject, option, topic)


async def check_event_topic(transport: Transport, subject: str, option: str, topic: Topic) -> list[Diagnosis]:
    """Check whether the events that are kept for listeners are taken.

    There is something to say only if somebody has listened. Arguments are those of `check_topic`.
    """
    checks: list[Diagnosis] = []
    for name, stats in sorted((await transport.stats(topic)).subscriptions.items()):
        if not name.startswith(SUBSCRIPTION_PREFIX):
            continue
        listener = f"event listener {name.removeprefix(SUBSCRIPTION_PREFIX)}"
        waiting = f"{_format_backlog(stats, 'message')} waiting"
        if stats.consumers:
            checks.append(ok(subject, f"{listener}: {format_count(stats.consumers, 'consumer')}, {waiting}"))
        else:
            remedy = f"start a worker that has it, or remove the subscription {name} of {topic.name}"
            checks.append(Diagnosis(subject, Level.WARNING, f"{listener}: no consumer, {waiting}", remedy))
    return checks + await _check_dead_letters(transport, subject, option, topic)


async def find_missing_versions(transport: Transport, storage: Storage | None, project: Project) -> list[Diagnosis]:
    """Find instances that wait for the code of a version that no worker has.

    A broker cannot list its topics. So the versions of running instances are looked at, and the
    versions before these.

    Args:
        transport: the connection to the broker.
        storage: the database; None if the configuration has none.
        project: the workflows of the configuration.
    """
    checks: list[Diagnosis] = []
    for name in sorted(project.workflows):
        classes = [each for each in project.workflows[name] if isinstance(each, type)]
        versions = {spec_of(each).version for each in classes}
        if storage is not None:
            versions |= await _read_running_versions(storage, name)
        newest = max(versions, default=0)
        versions |= set(range(newest + 1)) if newest <= MAX_GUESSED_VERSION else set()
        for version in sorted(versions):
            stats = await _fetch_stats(transport, topics.workflow_version(name, version))
            if stats is not None and not stats.consumers and stats.backlog + stats.unacked:
                backlog = _format_backlog(stats, "activation")
                message = f"{backlog} waiting for the code of version {version}, which no worker has"
                remedy = "start a worker that has it: the key `classes` takes several versions"
                checks.append(Diagnosis(f"workflow {name}", Level.WARNING, message, remedy))
    return checks


async def _read_running_versions(storage: Storage, name: str) -> set[int]:
    """Read the versions of running instances. Of very many, only the newest are looked at."""
    versions: set[int] = set()
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        query = Query(name, status=WorkflowStatus.RUNNING, limit=MAX_COUNT, cursor=cursor)
        page = await storage.states.find(query)
        versions |= {each.entry.version for each in page.found if each.entry.version is not None}
        cursor = page.cursor
        if cursor is None:
            break
    return versions


async def check_instances(storage: Storage, project: Project, now: float) -> list[Diagnosis]:
    """Count the instances of each workflow that are stalled, parked, or have an overdue timer.

    Args:
        storage: the database.
        project: the workflows of the configuration.
        now: the present, in seconds since 1970.
    """
    checks: list[Diagnosis] = []
    for name in sorted(project.workflows):
        for flag, remedy in (
            (Flag.STALLED, f"correct the code, then run: infinitic retry --stalled --workflow {name}"),
            (Flag.PARKED, "look at the cause in its dead letters, and keep them"),
        ):
            count = await storage.states.count(Query(name, flag=flag, limit=MAX_COUNT))
            if count:
                message = f"{_format_count(count)} {flag}, see: infinitic list --status {flag} --workflow {name}"
                checks.append(Diagnosis(f"workflow {name}", Level.WARNING, message, remedy))
        count = await storage.states.count(Query(name, overdue_at=now - OVERDUE_SECONDS, limit=MAX_COUNT))
        if count:
            message = f"{_format_count(count)} with a timer that is overdue by more than {OVERDUE_SECONDS:.0f} s"
            remedy = "check that a worker with its state engine runs"
            checks.append(Diagnosis(f"workflow {name}", Level.WARNING, message, remedy))
    return checks


async def _check_dead_letters(transport: Transport, subject: str, option: str, topic: Topic) -> list[Diagnosis]:
    stats = await _fetch_stats(transport, topics.dead_letters(topic))
    if stats is None or not stats.backlog + stats.unacked:
        return []
    message, remedy = _format_backlog(stats, "dead letter"), f"run: infinitic dead-letters list {option}"
    return [Diagnosis(subject, Level.WARNING, message, remedy)]


async def _fetch_stats(transport: Transport, topic: Topic) -> SubscriptionStats | None:
    return (await transport.stats(topic)).subscriptions.get(topic.subscription or "")


def _format_backlog(stats: SubscriptionStats, noun: str) -> str:
    return format_count(stats.backlog + stats.unacked, noun)


def _format_count(count: int) -> str:
    return f"{MAX_COUNT:,} or more" if count >= MAX_COUNT else f"{count:,}"
