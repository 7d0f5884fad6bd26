"""How the executors of a service ask one another which attempts they have in hand.

Questions and answers go through a topic that every executor of the service reads. An executor that
does not answer within a second has nothing in hand, or is dead. The topic also brings word of
cancelled tasks, from state engines.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial

from infinitic import topics
from infinitic.errors import TransportError
from infinitic.messages import control
from infinitic.messages.control import Alive, Attempt, AttemptsLost, CancelTasks, Ping
from infinitic.runtime.backoff import Losses, compute_delay, retry_while_refused, retry_while_unavailable
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.wakeup import wake
from infinitic.transport import Consumer, Message, TransportClosed, UnsupportedCapability

_logger = logging.getLogger("infinitic.executor")

ANSWER_SECONDS = 1.0
"""How long the others have to answer."""

PAGE = 100
"""How many attempts one message names, so that it fits into a message of any broker."""

PREFETCH = 1000
SUBSCRIPTION = "executor"


class Inquiry:
    """Asks the executors of a service which attempts they have in hand, and answers for this one.

    Args:
        service: the name of the service.
        publisher: publishes questions and answers.
        find_known: gives those of some attempts that this executor knows: True for one for which
            nothing is left to do, False for one that it has in hand.
        find_guard: gives the number of the newest guard of an attempt that is in hand or in doubt;
            0: none.
        has_newer: says whether a guard with a higher number is in doubt here.
        cancel: called with each message about cancelled tasks.
        stop_lost: called with each message about lost attempts.

    Attributes:
        guards: the numbers of the newest guards that were heard of with the last answers.
    """

    def __init__(
        self,
        service: str,
        publisher: Publisher,
        find_known: Callable[[Iterable[Attempt]], dict[Attempt, bool]],
        find_guard: Callable[[Attempt], int],
        has_newer: Callable[[Attempt, int], bool],
        cancel: Callable[[CancelTasks], object],
        stop_lost: Callable[[AttemptsLost], object],
    ) -> None:
        self._topic = topics.service_control(service)
        self._publisher = publisher
        self._find_known = find_known
        self._find_guard = find_guard
        self._has_newer = has_newer
        self._cancel = cancel
        self._stop_lost = stop_lost
        self.guards: dict[Attempt, int] = {}
        self._consumer: Consumer | None = None
        self._closed = False
        self._heard: dict[Attempt, bool] = {}
        self._asked: set[Attempt] = set()
        self._complete: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Subscribe to questions and answers. What was asked before is not heard."""
        transport, topic = self._publisher.transport, self._topic
        self._consumer = await retry_while_unavailable(
            f"Subscribing to {topic.name}",
            lambda: transport.subscribe(topic, SUBSCRIPTION, PREFETCH, durable=False),
        )
        if self._closed:
            # It was closed meanwhile: nobody would look at what comes.
            await self._consumer.close()

    async def close(self) -> None:
        """Unsubscribe."""
        self._closed = True
        if self._consumer is not None:
            await self._consumer.close()

    async def run(self) -> None:
        """Answer until cancelled. A consumer that is lost is replaced.

        Raises:
            UnsupportedCapability: the broker has no such topics.
        """
        losses = Losses()
        while not self._closed:
            losses.note_joined()
            try:
                await self._answer()
            except UnsupportedCapability:
                raise
            except TransportError as error:
                if self._closed:
                    return
                _logger.warning("%s: %s; subscribing anew", self._topic.name, error)
                await asyncio.sleep(losses.note_lost())
                if not await self._renew():
                    return

    async def _renew(self) -> bool:
        """Subscribe anew, until it works. False if the whole connection is closed."""
        tries = 0
        while True:
            tries += 1
            await asyncio.sleep(compute_delay(tries))
            lost = self._consumer
            if lost is not None:
                with suppress(TransportError):
                    await lost.close()
            try:
                await self.start()
            except TransportClosed:
                return False
            except TransportError as error:
                _logger.warning("%s: %s; trying until it works", self._topic.name, error)
            else:
                return True

    async def _answer(self) -> None:
        consumer = self._consumer
        assert consumer is not None
        while True:
            deliveries = await retry_while_unavailable(
                f"Receiving on {self._topic.name}", partial(consumer.receive, PAGE)
            )
            await retry_while_unavailable(f"Acknowledging on {self._topic.name}", partial(consumer.ack, deliveries))
            asked = dict[Attempt, int]()
            for delivery in deliveries:
                try:
                    message: control.Control = control.decode(delivery.message.body)
                except Exception as error:  # noqa: BLE001 (bytes from anywhere; a newer release may ask other things)
                    _logger.debug("%s: a message is passed over: %s", self._topic.name, error)
                    continue
                match message:
                    case Ping():
                        asked |= dict.fromkeys(message.attempts, 0)
                        asked |= dict(zip(message.attempts, message.guards, strict=False))
                    case Alive():
                        self._hear(message)
                    case CancelTasks():
                        self._cancel(message)
                    case AttemptsLost():
                        self._stop_lost(message)
            known = list(self._find_known(asked).items())
            # A newer guard that waits here stands for the older one that somebody else was given.
            known += [
                (attempt, False) for attempt, number in asked.items() if number and self._has_newer(attempt, number)
            ]
            if known:
                pages = (known[start : start + PAGE] for start in range(0, len(known), PAGE))
                await self._send(*(self._make_answer(page) for page in pages))

    async def ask(self, attempts: Mapping[Attempt, int]) -> dict[Attempt, bool]:
        """Ask who has these attempts. It takes a second, or less if all of them are known.

        There is one question at a time. If the broker refuses the question, nobody is heard.

        Args:
            attempts: the attempts, each with the number of the guard that has come; 0: none has.

        Returns:
            Those that some executor knows: True if it has published the report, False if it has
            the attempt in hand. What nobody knows is left out.

        Raises:
            TransportClosed: the connection is closed for good.
        """
        self._asked = set(attempts)
        self._heard = {}
        self.guards = {}
        self._complete = asyncio.get_running_loop().create_future()
        wanted = list(self._asked)
        pages = [_make_question(wanted[start : start + PAGE], attempts) for start in range(0, len(wanted), PAGE)]
        try:
            await retry_while_refused(f"Asking on {self._topic.name}", lambda: self._send(*pages))
        except TransportClosed:
            raise
        except TransportError as error:
            _logger.error("%s: nobody can be asked who has %d tasks: %s", self._topic.name, len(wanted), error)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                await self._complete
        except TimeoutError:
            pass
        heard, self._heard, self._asked, self._complete = self._heard, {}, set(), None
        return heard

    def _hear(self, message: Alive) -> None:
        self._heard |= {attempt: False for attempt in message.attempts if attempt in self._asked}
        for attempt, number in zip(message.attempts, message.guards, strict=False):
            self.guards[attempt] = max(number, self.guards.get(attempt, 0))
        self._heard |= {attempt: True for attempt in message.done if attempt in self._asked}
        if len(self._heard) == len(self._asked):
            wake(self._complete)

    def _make_answer(self, known: Iterable[tuple[Attempt, bool]]) -> Alive:
        pairs = list(known)
        in_hand = tuple(attempt for attempt, done in pairs if not done)
        guards = tuple(map(self._find_guard, in_hand))
        done = tuple(attempt for attempt, done in pairs if done)
        return Alive(in_hand, done, guards if any(guards) else ())

    async def _send(self, *messages: Ping | Alive) -> None:
        await self._publisher.send(
            self._topic, [Message("control", None, control.encode(message)) for message in messages]
        )


def _make_question(attempts: Sequence[Attempt], guards: Mapping[Attempt, int]) -> Ping:
    numbers = tuple(guards[attempt] for attempt in attempts)
    return Ping(tuple(attempts), numbers if any(numbers) else ())
