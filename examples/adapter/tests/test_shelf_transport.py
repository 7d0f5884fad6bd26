"""The shelf keeps the contract of every transport."""

from collections.abc import Callable
from functools import cached_property, partial
from tempfile import TemporaryDirectory

from infinitic_shelf.transport import ShelfTransport

from infinitic.topics import Topic
from infinitic.transport import Transport
from infinitic_testing.conformance import TransportConformance


class TestShelfTransport(TransportConformance):
    embedded = True
    silence, delay = 0.1, 0.25
    # Less than `LOOK_SECONDS`, or FLO-5 could not tell that nobody is woken.
    promptness = 0.8

    @cached_property
    def folder(self) -> TemporaryDirectory[str]:
        return TemporaryDirectory()

    def connect(self) -> Transport:
        return ShelfTransport(self.folder.name)

    def make_connector(self) -> Callable[[], Transport]:
        return partial(ShelfTransport, self.folder.name)

    async def crash(self, transport: Transport) -> None:
        assert isinstance(transport, ShelfTransport)
        await transport.crash()

    async def remove(self, topic: Topic) -> None:
        async with ShelfTransport(self.folder.name) as transport:
            await transport.remove(topic)
