"""What the REST interface of Pulsar refuses, and for how long."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from infinitic.errors import TransportError
from infinitic.topics import service_executor
from infinitic.transport import TransportUnavailable
from infinitic_transports.pulsar import PulsarSettings
from infinitic_transports.pulsar.admin import Admin
from infinitic_transports.pulsar.names import Names

TOPIC = "persistent://shop/test/service-executor%3AMailer"


class RefusingRest(Admin):
    """REST that refuses everything with 412.

    Args:
        reason: why.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(PulsarSettings(web_service_url="http://127.0.0.1:1"), Names("shop", "test"), 1.0)
        self._reason = reason

    def _open(self) -> httpx.AsyncClient:
        def refuse(request: httpx.Request) -> httpx.Response:
            return httpx.Response(412, json={"reason": self._reason})

        return httpx.AsyncClient(transport=httpx.MockTransport(refuse), base_url="http://127.0.0.1:1/")


def make_topic(reason: str) -> TransportError:
    async def play() -> TransportError:
        admin = RefusingRest(reason)
        try:
            with pytest.raises(TransportError) as raised:
                await admin.make_topic(service_executor("Mailer"), partitions=None)
        finally:
            await admin.close()
        return raised.value

    return asyncio.run(play())


@pytest.mark.parametrize(
    "reason",
    [
        f"Can't find owner for topic {TOPIC}",
        f"Failed to find ownership for topic:{TOPIC}",
        "Failed to find ownership for ServiceUnit:shop/test/0x00000000_0xffffffff",
    ],
)
def test_a_topic_without_an_owner_is_waited_for(reason: str) -> None:
    """A broker that stops answers so, or one that has just started."""
    error = make_topic(reason)
    assert isinstance(error, TransportUnavailable)
    assert reason in str(error)


def test_other_refusals_are_mistakes() -> None:
    assert not isinstance(make_topic("Topic name is not valid"), TransportUnavailable)
