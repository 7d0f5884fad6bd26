"""Broken workers over an in-memory broker that is in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from msgspec.structs import replace

from infinitic import Worker
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.executor import ServiceExecutor
from infinitic.topics import Topic
from infinitic.transport import Delivery
from tests.conformance.transport_broken import broken
from tests.conformance.transport_memory import OnMemory


def with_publisher(kind: type[Publisher]) -> type[Worker]:
    """Workers that publish so."""

    class Careless(Worker):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            self._components.publisher = kind(self._transport)

    return Careless


class _Twice(Publisher):
    async def dead_letter(self, topic: Topic, deliveries: Sequence[Delivery], reason: str) -> None:
        await super().dead_letter(topic, [*deliveries, *deliveries], reason)


@broken("RED-4", "ORD-14")
class BuriesTwice(OnMemory):
    """Each dead letter is there twice."""

    worker_kind = with_publisher(_Twice)


class _Bare(Publisher):
    async def dead_letter(self, topic: Topic, deliveries: Sequence[Delivery], reason: str) -> None:
        bare = [replace(each, message=replace(each.message, headers={}, key=None)) for each in deliveries]
        await super().dead_letter(topic, bare, reason)


@broken("RED-4")
class BuriesTheBodyOnly(OnMemory):
    """A dead letter lacks the key and the headers of what it was."""

    worker_kind = with_publisher(_Bare)


class _DelayedMessage(Publisher):
    async def dead_letter(self, topic: Topic, deliveries: Sequence[Delivery], reason: str) -> None:
        self.burying = asyncio.create_task(super().dead_letter(topic, deliveries, reason))


@broken("RED-5")
class AcksBeforeItBuries(OnMemory):
    """A message is acknowledged before its dead letter is accepted."""

    worker_kind = with_publisher(_DelayedMessage)


class _Backwards(Publisher):
    async def dead_letter(self, topic: Topic, deliveries: Sequence[Delivery], reason: str) -> None:
        await super().dead_letter(topic, deliveries[::-1], reason)


@broken("ORD-14")
class BuriesBackwards(OnMemory):
    """The dead letters of a key are in the reverse order."""

    worker_kind = with_publisher(_Backwards)


class _HeadOnly(Publisher):
    async def dead_letter(self, topic: Topic, deliveries: Sequence[Delivery], reason: str) -> None:
        await super().dead_letter(topic, deliveries[:1], reason)


@broken("ORD-14")
class ForgetsWhatIsBehind(OnMemory):
    """What waits behind a dead letter is acknowledged and lost."""

    worker_kind = with_publisher(_HeadOnly)


class _Fearless(Worker):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._make_new, self._components.make_new = self._components.make_new, self._make_fearless  # type: ignore[method-assign]  # broken on purpose

    def _make_fearless(self) -> list[Any]:
        components: list[Any] = self._make_new()
        for each in components:
            if isinstance(each, ServiceExecutor):
                intake = each._intake  # pyright: ignore[reportPrivateUsage]  # broken on purpose
                intake._accept = partial(_accept_as_first, intake._accept)  # type: ignore[method-assign]  # pyright: ignore[reportPrivateUsage]  # broken on purpose
        return components


def _accept_as_first(accept: Callable[[Delivery], Any], delivery: Delivery) -> Any:
    return accept(replace(delivery, attempt=1))


@broken("RED-6")
class CountsNoDeaths(OnMemory):
    """A task is run again however many processes died with it."""

    worker_kind = _Fearless
