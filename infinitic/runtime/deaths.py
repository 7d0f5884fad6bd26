"""Who is to blame for the death of a process: what an executor asks of the others, and who runs without company.

A redelivery tells little: its process died, or only its session did, or the message merely waited there. So the others
are asked (`Inquiry`). If nobody has it, that counts as a death, but it is a weak sign: all that was in hand beside the
culprit shows it too. It counts up to `SUSPECT` deaths. A task with so many runs only while no other such one runs in
its process (`Trials`), and a marked copy, due later, is published *before* it runs. Only if nobody knows of it when
that copy comes did the process die with it. So only the culprit gets further; what was in hand beside it ends well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

from infinitic import topics
from infinitic.errors import TransportError
from infinitic.messages import control
from infinitic.messages.control import Alive, Attempt, Ping
from infinitic.runtime.backoff import delay_of, insist
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.wakeup import wake
from infinitic.transport import Consumer, Message, TransportClosed, UnknownTopic

_logger = logging.getLogger("infinitic.executor")

SUSPECT = 2
"""Deaths from which on a task is run without another such one beside it. Weak signs count up to here."""

ANSWER_SECONDS = 1.0
"""How long the others have to answer."""

ELSEWHERE_SECONDS = 30.0
"""After this time a message is looked at again that another executor has in hand."""

AGAIN_SECONDS = 5.0
"""After this time a marked copy is due, and it is asked once more: what was handed back is taken up meanwhile."""

TURN_SECONDS = 0.25
"""Suspects that have to wait for another one come again one after the other, with so much between them."""

PAGE = 100
PREFETCH = 1000
SUBSCRIPTION = "executor"


class Trials:
    """One suspect at a time in this process, whatever its service."""

    def __init__(self) -> None:
        self._busy = False
        self._behind = 0

    def begin(self) -> bool:
        """Take the one place. False if it is taken."""
        if self._busy:
            return False
        self._busy = True
        self._behind = 0
        return True

    def end(self) -> None:
        """Give the place back."""
        self._busy = False

    def turn(self) -> float:
        """The seconds after which one more that has to wait is to come again: a little later than the one before it."""
        self._behind += 1
        return TURN_SECONDS * self._behind


class Inquiry:
    """Asks the executors of a service which attempts they have in hand, and answers for this one.

    Args:
        service: the name of the service.
        publisher: publishes questions and answers.
        known: True for an attempt whose report this executor has published, False for one in its hands, else None.
    """

    def __init__(self, service: str, publisher: Publisher, known: Callable[[Attempt], bool | None]) -> None:
        self._topic = topics.service_control(service)
        self._publisher = publisher
        self._known = known
        self._consumer: Consumer | None = None
        self._closed = False
        self._heard: dict[Attempt, bool] = {}
        self._asked: set[Attempt] = set()
        self._complete: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Hear what is asked from here on."""
        transport, topic = self._publisher.transport, self._topic
        self._consumer = await insist(
            f"Subscribing to {topic.name}",
            lambda: transport.subscribe(topic, SUBSCRIPTION, PREFETCH, durable=False),
        )

    async def close(self) -> None:
        """Hear no more."""
        self._closed = True
        if self._consumer is not None:
            await self._consumer.close()

    async def run(self) -> None:
        """Answer until cancelled. A consumer that is lost, by the broker or with its topic, is replaced."""
        tries = 0
        while not self._closed:
            try:
                await self._answer()
            except (TransportClosed, UnknownTopic) as error:
                if self._closed:
                    return
                tries += 1
                _logger.warning("%s: %s; subscribing anew", self._topic.name, error)
                await asyncio.sleep(delay_of(tries))
                try:
                    await self._renew()
                except TransportClosed:  # the whole connection is: the executor ends
                    return

    async def _renew(self) -> None:
        lost = self._consumer
        if lost is not None:
            with suppress(TransportError):
                await lost.close()
        await self.start()

    async def _answer(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        while True:
            deliveries = await insist(f"Receiving on {self._topic.name}", partial(consumer.receive, PAGE))
            await insist(f"Acknowledging on {self._topic.name}", partial(consumer.ack, deliveries))
            for delivery in deliveries:
                try:
                    message = control.decode(delivery.message.body)
                except Exception as error:  # noqa: BLE001 (bytes from anywhere; a newer release may ask other things)
                    _logger.debug("%s: a message is passed over: %s", self._topic.name, error)
                    continue
                await self._heed(message)

    async def ask(self, attempts: Iterable[Attempt]) -> dict[Attempt, bool]:
        """Those of these attempts that an executor has in hand (False), or whose report it has published (True).

        It takes a second, or less if all are known. One question at a time.
        """
        self._asked = set(attempts)
        self._heard = {}
        self._complete = asyncio.get_running_loop().create_future()
        wanted = list(self._asked)
        pages = [Ping(tuple(wanted[start : start + PAGE])) for start in range(0, len(wanted), PAGE)]
        await self._send(*pages)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._complete
        except TimeoutError:
            pass
        heard, self._heard, self._asked, self._complete = self._heard, {}, set(), None
        return heard

    async def _heed(self, message: Ping | Alive) -> None:
        match message:
            case Ping(attempts):
                known = {attempt: self._known(attempt) for attempt in attempts}
                in_hand = tuple(attempt for attempt, done in known.items() if done is False)
                done = tuple(attempt for attempt, done in known.items() if done)
                if in_hand or done:
                    await self._send(Alive(in_hand, done))
            case Alive(attempts, done):
                self._heard |= {attempt: False for attempt in attempts if attempt in self._asked}
                self._heard |= {attempt: True for attempt in done if attempt in self._asked}
                if len(self._heard) == len(self._asked):
                    wake(self._complete)

    async def _send(self, *messages: Ping | Alive) -> None:
        await self._publisher.send(
            self._topic, [Message("control", None, control.encode(message)) for message in messages]
        )
