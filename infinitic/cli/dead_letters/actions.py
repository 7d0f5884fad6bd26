"""What ``infinitic dead-letters`` does, with topics that are named by service and workflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from infinitic import topics
from infinitic.cli.connection import Connection
from infinitic.cli.dead_letters.letter_box import (
    MAX_SEARCHED,
    RECEIVE_SECONDS,
    DeadLetter,
    LetterBox,
    find_deliveries,
    make_letter,
    open_letter_box,
    peek_letters,
    replay_deliveries,
)
from infinitic.errors import InfiniticError, UsageError
from infinitic.ids import check_name
from infinitic.topics import Topic
from infinitic.transport import Delivery

DROP_PAGE = 1000

PARKED_NOTE = (
    "Instances that were parked take messages again. If one fails again for a minute, it is parked again, "
    "with its reason in its dead letters."
)


class LetterList(msgspec.Struct):
    """Some letters, and how many there are in all."""

    letters: list[DeadLetter]
    total: int


class LetterReport(msgspec.Struct):
    """The outcome of dropping or replaying letters.

    Args:
        what: "dropped" or "replayed".
        count: how many letters in all.
        topics: how many letters, by the topic that they came from.
        missing: the ids that were not found.
        note: what the operator should know.
    """

    what: str
    count: int = 0
    topics: dict[str, int] = {}
    missing: list[str] = []
    note: str = ""


async def list_letters(
    connection: Connection,
    services: Sequence[str],
    workflows: Sequence[str],
    limit: int,
    patience: float = RECEIVE_SECONDS,
) -> LetterList:
    """List dead letters, oldest first.

    Args:
        connection: the connection of the command.
        services: the names of services; their tasks are meant.
        workflows: the names of workflows; their engines and their code are meant. Without any name,
            all services and workflows of the configuration are meant.
        limit: how many letters at most.
        patience: how long to wait for a letter, in seconds.
    """
    found = LetterList([], 0)
    for topic in _list_topics(connection, services, workflows):
        letters, total = await peek_letters(connection.transport, topic, limit - len(found.letters), patience)
        found.letters += [make_letter(topic, each) for each in letters]
        found.total += total
    return found


async def show_letters(
    connection: Connection,
    services: Sequence[str],
    workflows: Sequence[str],
    ids: Sequence[str],
    patience: float = RECEIVE_SECONDS,
) -> list[DeadLetter]:
    """Return letters with headers and body.

    Other arguments as for `list_letters`.

    Args:
        ids: the ids of the letters.

    Raises:
        InfiniticError: an id was not found.
    """
    found: list[DeadLetter] = []
    for topic in _list_topics(connection, services, workflows):
        letters, _ = await peek_letters(connection.transport, topic, MAX_SEARCHED, patience)
        found += [make_letter(topic, each, whole=True) for each in letters if each.message.id in ids]
    missing = _list_missing(ids, {each.id for each in found})
    if missing:
        raise InfiniticError(describe_missing(missing))
    return found


async def drop_letters(
    connection: Connection,
    services: Sequence[str],
    workflows: Sequence[str],
    ids: Sequence[str] | None,
    patience: float = RECEIVE_SECONDS,
) -> LetterReport:
    """Remove letters for good.

    Other arguments as for `list_letters`, but at least one name is needed.

    Args:
        ids: the ids of the letters; None for all that are there.

    Raises:
        UsageError: no service and no workflow is named.
    """
    sources = _list_topics(connection, services, workflows, must_be_named=True)
    return await _handle_letters("dropped", connection, sources, ids, LetterBox.remove, DROP_PAGE, patience)


async def replay_letters(
    connection: Connection,
    services: Sequence[str],
    workflows: Sequence[str],
    ids: Sequence[str] | None,
    *,
    page: int = 100,
    patience: float = RECEIVE_SECONDS,
) -> LetterReport:
    """Publish letters to where they came from, and remove them here.

    Other arguments as for `drop_letters`.

    Args:
        page: how many letters are published at once. A replay that is cut off may publish a page
            twice; engines recognise that.

    If a letter was for an instance of a workflow, the other letters of the instance are replayed
    with it, in order, and the instance is parked no more.

    Raises:
        UsageError: no service and no workflow is named.
        InfiniticError: a letter cannot be replayed. Letters of earlier pages were.
    """
    handle = partial(replay_deliveries, connection.transport, connection.client.clock, set[str]())
    sources = _list_topics(connection, services, workflows, must_be_named=True)
    report = await _handle_letters("replayed", connection, sources, ids, handle, page, patience, whole=True)
    if any(topics.workflow_engine(name).name in report.topics for name in workflows):
        report.note = PARKED_NOTE
    return report


async def _handle_letters(
    what: str,
    connection: Connection,
    sources: Sequence[Topic],
    ids: Sequence[str] | None,
    handle: Callable[[LetterBox, Sequence[Delivery]], Awaitable[None]],
    page: int,
    patience: float,
    *,
    whole: bool = False,
) -> LetterReport:
    report = LetterReport(what)
    seen: set[str] = set()
    for topic in sources:
        max_unacked = page if ids is None else MAX_SEARCHED
        async with open_letter_box(connection.transport, topic, max_unacked, patience) as box:
            count = 0
            if ids is None:
                async for some in box.iterate_pages(page, box.expected):
                    await handle(box, some)
                    count += len(some)
            else:
                found = await find_deliveries(box, ids, whole=whole)
                for first in range(0, len(found), page):
                    await handle(box, found[first : first + page])
                count = len(found)
                seen |= {name for each in found for name in (each.message.id, each.message.key) if name}
        if count:
            report.count += count
            report.topics[topic.name] = count
    report.missing = [] if ids is None else _list_missing(ids, seen)
    return report


_SERVICE_TOPICS = (topics.service_executor, topics.service_tag, topics.service_events)
_WORKFLOW_TOPICS = (topics.workflow_engine, topics.workflow_executor, topics.workflow_tag, topics.workflow_events)


def _list_topics(
    connection: Connection, services: Sequence[str], workflows: Sequence[str], *, must_be_named: bool = False
) -> list[Topic]:
    """List the topics that are meant. Without names, these are all of the configuration."""
    if not services and not workflows:
        if must_be_named:
            raise UsageError("Say whose dead letters are meant: --service NAME or --workflow NAME")
        services, workflows = connection.project.services, tuple(connection.project.workflows)
    for each in services:
        check_name("The name of a service", each)
    for each in workflows:
        check_name("The name of a workflow", each)
    return [
        *(make(name) for name in services for make in _SERVICE_TOPICS),
        *(make(name) for name in workflows for make in _WORKFLOW_TOPICS),
    ]


def _list_missing(ids: Sequence[str], found: set[str]) -> list[str]:
    return [each for each in dict.fromkeys(ids) if each not in found]


def describe_missing(ids: Sequence[str]) -> str:
    """Say that there are no letters with these ids."""
    return (
        f"There are no dead letters with these ids (among the first {MAX_SEARCHED:,} of each topic): {', '.join(ids)}"
    )
