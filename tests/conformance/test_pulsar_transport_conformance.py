"""The Pulsar transport keeps the contract.

It is tested on the broker of `make services`, and across restarts of a private one.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterator
from functools import partial
from typing import Any, ClassVar, TypeVar

import pytest

from chaos.servers import PrivatePulsar
from infinitic.ids import new_id
from infinitic.topics import Topic
from infinitic.transport import Transport
from infinitic_testing.conformance.transport import TransportConformance, list_transport_rules
from infinitic_transports.pulsar import PulsarSettings, PulsarTransport
from tests.integration.private import private_pulsar
from tests.required import IS_REQUIRED, reach
from tests.thorough import IS_THOROUGH

T = TypeVar("T")

BROKER = os.environ.get("INFINITIC_PULSAR_URL", "pulsar://127.0.0.1:6650")
WEB = os.environ.get("INFINITIC_PULSAR_WEB_URL", "http://127.0.0.1:8080")


class OnPulsar(TransportConformance):
    settings: ClassVar[PulsarSettings]
    bound = 120.0
    slow = IS_THOROUGH or IS_REQUIRED

    def connect(self) -> Transport:
        return PulsarTransport(self.settings)

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        async def bounded() -> T:
            async with asyncio.timeout(self.bound):
                return await main

        return asyncio.run(bounded())

    def make_connector(self) -> Callable[[], Transport]:
        return partial(PulsarTransport, self.settings)

    async def crash(self, transport: Transport) -> None:
        assert isinstance(transport, PulsarTransport)
        await transport.crash()

    async def remove(self, topic: Topic) -> None:
        async with PulsarTransport(self.settings) as transport:
            await transport.admin.delete_topic(topic)


def check_reachable() -> None:
    """Skip, or fail where services are required, if Pulsar is not there."""
    for url in (BROKER, WEB):
        reach("Pulsar", url)


class TestPulsar(OnPulsar):
    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def namespace(cls) -> Iterator[None]:
        """A namespace of its own, deleted afterwards."""
        check_reachable()
        cls.settings = PulsarSettings(
            broker_service_url=BROKER, web_service_url=WEB, tenant="infinitic", namespace=f"test-{new_id()[:12]}"
        )
        yield

        async def clean() -> None:
            async with PulsarTransport(cls.settings) as transport:
                await transport.admin.delete_namespace()

        asyncio.run(clean())


class TestPulsarRestarts(OnPulsar):
    """The rules that restart their broker: it is a private one, on free ports."""

    patience = 40.0
    service: ClassVar[PrivatePulsar]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def private_broker(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
        """A broker that nobody else uses."""
        check_reachable()
        cls.service = private_pulsar(tmp_path_factory.mktemp("pulsar"))
        try:
            cls.service.do("start")
            cls.settings = PulsarSettings(
                broker_service_url=cls.service.broker, web_service_url=cls.service.web, namespace="conformance"
            )
            yield
        finally:
            cls.service.end()

    async def restart(self) -> None:
        await asyncio.to_thread(self.service.do, "restart")


for _name in {name for names in list_transport_rules().values() for name in names if "restart" not in name}:
    setattr(TestPulsarRestarts, _name, None)
