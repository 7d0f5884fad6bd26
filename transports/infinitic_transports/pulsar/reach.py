"""The first connection to the brokers: it works within seconds, or one error says what to correct.

Later connections are made by the client library, which tries again until it succeeds.
"""

from __future__ import annotations

import asyncio

from infinitic.errors import TransportError
from infinitic.transport import TransportUnavailable
from infinitic_transports.pulsar.admin import Admin
from infinitic_transports.pulsar.errors import advise_connection, advise_result
from infinitic_transports.pulsar.handshake import Greeting, HandshakeError, greet, parse_addresses
from infinitic_transports.pulsar.settings import Athenz, PulsarSettings

ANSWER_SECONDS = 5.0
"""Seconds within which a broker has to answer."""

_TRY_SECONDS = 2.0
_PAUSE_SECONDS = 0.5


class Reach:
    """Asks the brokers at the addresses of `broker_service_url`.

    Args:
        settings: where the brokers are.
        admin: REST, which may be reached when the brokers are not.
    """

    def __init__(self, settings: PulsarSettings, admin: Admin) -> None:
        self._settings = settings
        self._admin = admin
        self._seconds = min(ANSWER_SECONDS, settings.client.connection_timeout_seconds)

    async def greet(self) -> Greeting:
        """The answer of the first broker that answers.

        Raises:
            TransportUnavailable: nothing answers, but waiting may help.
            TransportError: somebody has to correct the settings. It is also raised when REST
                answers all the time and the brokers do not: then their address is wrong.
        """
        time = asyncio.get_running_loop().time
        until = time() + _TRY_SECONDS
        rest_answered = False
        while True:
            try:
                return self._check_denial(await self._ask_once())
            except HandshakeError as error:
                text = f"No broker is reached at {self._settings.broker_service_url}: {error}"
                advice = advise_connection(str(error))
                if advice is not None or error.permanent:
                    raise TransportError(f"{text}: {advice or 'correct broker_service_url'}") from error
            if not await self._rest_answers():
                raise TransportUnavailable(f"{text}; check broker_service_url, and whether the broker is up")
            # A broker that starts or stood still may answer REST first. So the brokers must have
            # failed to answer once more after REST answered.
            if rest_answered and time() > until:
                break
            rest_answered = True
            await asyncio.sleep(_PAUSE_SECONDS)
        raise TransportError(
            f"{text}, while REST answers at {self._settings.web_service_url}: correct the host or the port of "
            "broker_service_url, or let connections to it through"
        )

    async def _ask_once(self) -> Greeting:
        settings, problem = self._settings, None
        identity, context = await self._admin.make_identity(tls=settings.broker_service_url.startswith("pulsar+ssl:"))
        for host, port in parse_addresses(settings.broker_service_url):
            try:
                return await greet(host, port, identity, context, self._seconds)
            except HandshakeError as error:
                problem = problem or error
        assert problem is not None
        raise problem

    def _check_denial(self, greeting: Greeting) -> Greeting:
        if greeting.denial and not isinstance(self._settings.authentication, Athenz):
            said = f"{greeting.denial}; {greeting.detail}; {advise_result(greeting.denial)}"
            raise TransportError(f"Connecting failed at {self._settings.broker_service_url}: {said}")
        return greeting

    async def _rest_answers(self) -> bool:
        try:
            await self._admin.get_version()
        except TransportUnavailable:
            return False
        except TransportError:
            # It answers, although it refuses this client.
            return True
        return True
