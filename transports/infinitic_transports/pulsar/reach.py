"""The first connection to the brokers: it works within seconds, or one error says what to correct.

Later ones are the client library's business: it connects again for as long as it takes.
"""

from __future__ import annotations

import asyncio

from infinitic.errors import TransportError
from infinitic.transport import TransportUnavailable
from infinitic_transports.pulsar.admin import Admin
from infinitic_transports.pulsar.errors import advice_of, wrong
from infinitic_transports.pulsar.handshake import Greeting, HandshakeError, addresses, greet
from infinitic_transports.pulsar.settings import Athenz, PulsarSettings

ANSWER_SECONDS = 5.0
"""Seconds that a broker has to answer, at most."""

_TRY_SECONDS = 2.0
_PAUSE_SECONDS = 0.5


class Reach:
    """Asks at the addresses of `broker_service_url`."""

    def __init__(self, settings: PulsarSettings, admin: Admin) -> None:
        self._settings = settings
        self._admin = admin
        self._seconds = min(ANSWER_SECONDS, settings.client.connection_timeout_seconds)

    async def greet(self) -> Greeting:
        """What the first broker says that answers.

        Raises `TransportUnavailable` if waiting may help. It does not where REST answers all the time and the
        brokers do not: that, as all that is wrong in the settings, is a `TransportError`.
        """
        time = asyncio.get_running_loop().time
        until = time() + _TRY_SECONDS
        while True:
            try:
                return self._let_in(await self._once())
            except HandshakeError as error:
                text = f"No broker is reached at {self._settings.broker_service_url}: {error}"
                advice = wrong(str(error))
                if advice is not None or error.mistake:
                    raise TransportError(f"{text}: {advice or 'correct broker_service_url'}") from error
            if not await self._rest_answers():
                raise TransportUnavailable(f"{text}; look at broker_service_url and whether the broker is up")
            if time() > until:
                break
            await asyncio.sleep(_PAUSE_SECONDS)
        raise TransportError(
            f"{text}, while REST answers at {self._settings.web_service_url}: correct the host or the port of "
            "broker_service_url, or let connections to it through"
        )

    async def _once(self) -> Greeting:
        settings, problem = self._settings, None
        identity, context = await self._admin.identity(tls=settings.broker_service_url.startswith("pulsar+ssl:"))
        for host, port in addresses(settings.broker_service_url):
            try:
                return await greet(host, port, identity, context, self._seconds)
            except HandshakeError as error:
                problem = problem or error
        assert problem is not None
        raise problem

    def _let_in(self, greeting: Greeting) -> Greeting:
        if greeting.denial and not isinstance(self._settings.authentication, Athenz):
            said = f"{greeting.denial}; {greeting.detail}; {advice_of(greeting.denial)}"
            raise TransportError(f"Connecting failed at {self._settings.broker_service_url}: {said}")
        return greeting

    async def _rest_answers(self) -> bool:
        try:
            await self._admin.version()
        except TransportUnavailable:
            return False
        except TransportError:
            return True  # whatever it has against this client
        return True
