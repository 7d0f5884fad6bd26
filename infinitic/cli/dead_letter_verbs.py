"""The verbs of ``infinitic dead-letters``, on topics that are named by service and workflow."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial

import msgspec

from infinitic import topics
from infinitic.cli import letters
from infinitic.cli.letters import Box, Letter
from infinitic.cli.link import Link
from infinitic.errors import InfiniticError, UsageError
from infinitic.ids import check_name
from infinitic.topics import Topic
from infinitic.transport import Delivery

PARKED = (
    "Letters went back to a workflow's engine. An instance that is parked (see describe) buries them again; "
    "a later release can unpark it."
)


class Letters(msgspec.Struct):
    """Some letters, and how many there are in all."""

    letters: list[Letter]
    total: int


class Done(msgspec.Struct):
    """How many letters were dropped or replayed, in all and by the topic they came from; ids that were not found."""

    what: str
    count: int = 0
    topics: dict[str, int] = {}
    missing: list[str] = []
    note: str = ""


async def list_letters(
    link: Link, services: Sequence[str], workflows: Sequence[str], limit: int, patience: float = letters.PATIENCE
) -> Letters:
    """The first `limit` letters of these topics."""
    found = Letters([], 0)
    for topic in _topics(link, services, workflows):
        async with letters.opened_box(link.transport, topic, limit, patience) as box:
            found.letters += await letters.counted(box, limit - len(found.letters))
            found.total += box.expected
    return found


async def show_letters(
    link: Link,
    services: Sequence[str],
    workflows: Sequence[str],
    ids: Sequence[str],
    patience: float = letters.PATIENCE,
) -> list[Letter]:
    """Whole letters. Raises if there is none of an id."""
    found: list[Letter] = []
    for topic in _topics(link, services, workflows):
        async with letters.opened_box(link.transport, topic, letters.DEEPEST, patience) as box:
            found += [letters.letter(box, each, whole=True) for each in await letters.find(box, ids)]
    missing = _missing(ids, {each.id for each in found})
    if missing:
        raise InfiniticError(not_found(missing))
    return found


async def drop(
    link: Link,
    services: Sequence[str],
    workflows: Sequence[str],
    ids: Sequence[str] | None,
    patience: float = letters.PATIENCE,
) -> Done:
    """Remove letters; `ids` None: all that are there."""

    return await _each("dropped", link, _topics(link, services, workflows, named=True), ids, Box.ack, 1000, patience)


async def replay(
    link: Link,
    services: Sequence[str],
    workflows: Sequence[str],
    ids: Sequence[str] | None,
    *,
    page: int = 100,
    patience: float = letters.PATIENCE,
) -> Done:
    """Publish letters to where they came from, `page` at once; `ids` None: all that are there."""
    handle = partial(letters.replay, link.transport)
    done = await _each("replayed", link, _topics(link, services, workflows, named=True), ids, handle, page, patience)
    if any(topics.workflow_engine(name).name in done.topics for name in workflows):
        done.note = PARKED
    return done


async def _each(
    what: str,
    link: Link,
    sources: Sequence[Topic],
    ids: Sequence[str] | None,
    handle: Callable[[Box, Sequence[Delivery]], Awaitable[None]],
    page: int,
    patience: float,
) -> Done:
    done = Done(what)
    seen: set[str] = set()
    for topic in sources:
        in_hand = page if ids is None else letters.DEEPEST
        async with letters.opened_box(link.transport, topic, in_hand, patience) as box:
            count = 0
            if ids is None:
                async for some in box.pages(page, box.expected):
                    await handle(box, some)
                    count += len(some)
            else:
                found = await letters.find(box, ids)
                for first in range(0, len(found), page):
                    await handle(box, found[first : first + page])
                count = len(found)
                seen |= {each.message.id for each in found}
        if count:
            done.count += count
            done.topics[topic.name] = count
    done.missing = [] if ids is None else _missing(ids, seen)
    return done


def _topics(link: Link, services: Sequence[str], workflows: Sequence[str], *, named: bool = False) -> list[Topic]:
    """The topics whose letters are meant. None named: all of the configuration, unless they have to be `named`."""
    if not services and not workflows:
        if named:
            raise UsageError("Say whose dead letters: --service NAME or --workflow NAME")
        services, workflows = link.project.services, tuple(link.project.workflows)
    for each in services:
        check_name("The name of a service", each)
    for each in workflows:
        check_name("The name of a workflow", each)
    return [
        *map(topics.service_executor, services),
        *(make(name) for name in workflows for make in (topics.workflow_engine, topics.workflow_executor)),
    ]


def _missing(ids: Sequence[str], found: set[str]) -> list[str]:
    return [each for each in dict.fromkeys(ids) if each not in found]


def not_found(missing: Sequence[str]) -> str:
    return f"Not among the dead letters (the first {letters.DEEPEST:,} of each topic): {', '.join(missing)}"
