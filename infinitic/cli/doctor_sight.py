"""What the doctor sees of messages and workflows: who consumes, what waits, what stands still, whose clock is off."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

from infinitic import topics
from infinitic.cli.link import Project
from infinitic.definitions.workflow_spec import spec_of
from infinitic.diagnosis import Diagnosis, Level, ok
from infinitic.storage import Flag, Query, Storage, WorkflowStatus
from infinitic.topics import Topic
from infinitic.transport import SubscriptionStats, Transport

MOST = 1000
"""How far instances are counted."""

PAGES = 10
"""How many times as many are looked at for their versions."""

TRIED = 50
"""Up to this version, those before are looked at, too: the oldest instances have them."""

OVERDUE_SECONDS = 60.0
"""How late a timer may be before it is told."""

APART_SECONDS = 2.0
"""Seconds that the clocks of two servers may be apart, as far as that can be measured."""


async def look_at_topic(transport: Transport, subject: str, option: str, topic: Topic) -> list[Diagnosis]:
    """Who consumes a topic, what waits in it, and its dead letters.

    Args:
        transport: the connection to the broker.
        subject: what the findings are about.
        option: of `infinitic dead-letters`, as ``--service Payments``.
        topic: that of a service, or of the state engine of a workflow.
    """
    found = await _main(transport, topic)
    if found is None:
        checks = [Diagnosis(subject, Level.WARNING, "has no topic yet", "its first worker or client makes it")]
    elif found.consumers:
        checks = [ok(subject, f"{found.consumers} consuming, {_waiting(found)} waiting")]
    else:
        message = f"nobody consumes, {_waiting(found)} waiting"
        checks = [Diagnosis(subject, Level.WARNING, message, "start a worker that hosts it")]
    return checks + await _dead_letters(transport, subject, option, topic)


async def look_at_code(transport: Transport, subject: str, option: str, name: str) -> list[Diagnosis]:
    """Activations for code on other workers: something to tell only if there are any and nobody takes them."""
    topic = topics.workflow_executor(name)
    found = await _main(transport, topic)
    checks: list[Diagnosis] = []
    if found is not None and not found.consumers and found.backlog + found.unacked:
        message = f"{_waiting(found)} activations wait, and nobody runs its code"
        checks.append(Diagnosis(subject, Level.WARNING, message, "start a worker that hosts its executor"))
    return checks + await _dead_letters(transport, subject, option, topic)


async def look_at_versions(transport: Transport, storage: Storage | None, project: Project) -> list[Diagnosis]:
    """Instances that wait for the code of a version that no worker has: something to tell only if there are any.

    No broker lists its topics: the versions are those of running instances, and the ones before them.
    """
    checks: list[Diagnosis] = []
    for name in sorted(project.workflows):
        classes = [each for each in project.workflows[name] if isinstance(each, type)]
        versions = {spec_of(each).version for each in classes}
        if storage is not None:
            versions |= await _running_versions(storage, name)
        versions |= set(range(max(versions, default=0) + 1)) if max(versions, default=0) <= TRIED else set()
        for version in sorted(versions):
            found = await _main(transport, topics.workflow_version(name, version))
            if found is not None and not found.consumers and found.backlog + found.unacked:
                message = f"{_waiting(found)} activations wait for the code of version {version}, which no worker has"
                remedy = "start a worker that has it: `classes` takes several versions"
                checks.append(Diagnosis(f"workflow {name}", Level.WARNING, message, remedy))
    return checks


async def _running_versions(storage: Storage, name: str) -> set[int]:
    """The versions of running instances, of the newest ones if there are very many."""
    versions: set[int] = set()
    cursor: str | None = None
    for _ in range(PAGES):
        page = await storage.states.find(Query(name, status=WorkflowStatus.RUNNING, limit=MOST, cursor=cursor))
        versions |= {each.entry.version for each in page.found if each.entry.version is not None}
        cursor = page.cursor
        if cursor is None:
            break
    return versions


async def _dead_letters(transport: Transport, subject: str, option: str, topic: Topic) -> list[Diagnosis]:
    dead = await _main(transport, topics.dead_letters(topic))
    if dead is None or not dead.backlog + dead.unacked:
        return []
    return [
        Diagnosis(subject, Level.WARNING, f"{_waiting(dead)} dead letters", f"infinitic dead-letters list {option}")
    ]


async def _main(transport: Transport, topic: Topic) -> SubscriptionStats | None:
    return (await transport.stats(topic)).subscriptions.get(topic.subscription or "")


def _waiting(found: SubscriptionStats) -> str:
    return f"{found.backlog + found.unacked:,}"


async def look_at_instances(storage: Storage, project: Project, now: float) -> list[Diagnosis]:
    """Instances that stand still, by workflow: stalled, parked, or with a timer that is overdue."""
    checks: list[Diagnosis] = []
    for name in sorted(project.workflows):
        for flag, remedy in (
            (Flag.STALLED, f"correct the code, then `infinitic retry --stalled --workflow {name}`"),
            (Flag.PARKED, "see the cause in its dead letters, and keep them"),
        ):
            count = await storage.states.count(Query(name, flag=flag, limit=MOST))
            if count:
                what = f"{_counted(count)} {flag}: `infinitic list --status {flag} --workflow {name}`"
                checks.append(Diagnosis(f"workflow {name}", Level.WARNING, what, remedy))
        count = await storage.states.count(Query(name, overdue_at=now - OVERDUE_SECONDS, limit=MOST))
        if count:
            message = f"{_counted(count)} with a timer that is overdue by more than {OVERDUE_SECONDS:.0f} s"
            checks.append(Diagnosis(f"workflow {name}", Level.WARNING, message, "does a worker with its engine run?"))
    return checks


def _counted(count: int) -> str:
    return f"{MOST:,} or more" if count >= MOST else f"{count:,}"


def compare_clocks(checks: Sequence[Diagnosis]) -> list[Diagnosis]:
    """Servers whose clocks agree with this machine no worse than allowed may still disagree with each other."""
    told = [each for each in checks if each.ahead is not None]
    found: list[Diagnosis] = []
    for one, other in combinations(told, 2):
        apart = (one.ahead or 0.0) - (other.ahead or 0.0)
        if abs(apart) >= APART_SECONDS and one.level is other.level is Level.OK:
            message = f"{one.subject} is {abs(apart):.1f} s {'ahead of' if apart > 0 else 'behind'} {other.subject}"
            found.append(Diagnosis("clocks", Level.WARNING, message, "synchronise both with NTP"))
    return found
