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
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial

from infinitic import topics
from infinitic.clock import Clock
from infinitic.errors import TransportError
from infinitic.messages import control
from infinitic.messages.control import Alive, Attempt, Ping
from infinitic.runtime.backoff import Losses, delay_of, retry_while_refused, retry_while_unavailable
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.service_executor.work import Outbound, Work
from infinitic.runtime.wakeup import wake
from infinitic.transport import Consumer, Message, TransportClosed, UnsupportedCapability

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

RECENT = 10_000
"""How many attempts an executor remembers."""

PAGE = 100
"""How many of them one message names, so that it fits whatever the broker takes."""

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


class Remembered:
    """What an executor knows of attempts that it has not in hand any more; of the last 10,000 of each kind.

    Args:
        clock: the time of day.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._done: OrderedDict[Attempt, None] = OrderedDict()
        self._put_off: OrderedDict[Attempt, float] = OrderedDict()

    def done(self, attempts: Iterable[Attempt]) -> None:
        """Their reports are published."""
        done = self._done
        for attempt in attempts:
            done[attempt] = None
        while len(done) > RECENT:
            done.popitem(last=False)

    def put_off(self, attempt: Attempt, due: float) -> None:
        """A message that makes somebody run it is on its way, due then (in seconds since the Unix epoch)."""
        self._put_off[attempt] = due
        if len(self._put_off) > RECENT:
            self._put_off.popitem(last=False)

    def is_done(self, attempt: Attempt) -> bool:
        """True if its report is published."""
        return attempt in self._done

    def is_put_off(self, attempt: Attempt) -> bool:
        """True if it will run, but not yet: nobody has it in hand, though nobody died with it."""
        due = self._put_off.get(attempt)
        return due is not None and self._clock.now() < due


def judge(work: Work, heard: Mapping[Attempt, bool], now: float, durability: float) -> Outbound | None:
    """What is sent in place of something doubtful; None if it is to run.

    Args:
        work: what is doubtful.
        heard: what the other executors answered, see `Inquiry.ask`.
        now: the time of day, in seconds since the Unix epoch.
        durability: seconds after which an acknowledgement survives a crash of the broker.
    """
    message = work.message
    if work.attempt in heard:  # it runs elsewhere: a session was lost, or this is the copy of what is on trial there
        return work.again(now + ELSEWHERE_SECONDS, asked=1)
    if message.asked == 1:
        return work.again(now + AGAIN_SECONDS, asked=2)
    if message.deaths < SUSPECT:
        due = now + durability if durability else None  # or the death undoes its count
        return work.again(due, asked=0, deaths=message.deaths + 1)
    return None


class Inquiry:
    """Asks the executors of a service which attempts they have in hand, and answers for this one.

    Args:
        service: the name of the service.
        publisher: publishes questions and answers.
        known: of some attempts those that this executor knows: True if it has published their report, else False.
    """

    def __init__(
        self, service: str, publisher: Publisher, known: Callable[[Iterable[Attempt]], dict[Attempt, bool]]
    ) -> None:
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
        self._consumer = await retry_while_unavailable(
            f"Subscribing to {topic.name}",
            lambda: transport.subscribe(topic, SUBSCRIPTION, PREFETCH, durable=False),
        )
        if self._closed:  # meanwhile: nobody would look at what comes
            await self._consumer.close()

    async def close(self) -> None:
        """Hear no more."""
        self._closed = True
        if self._consumer is not None:
            await self._consumer.close()

    async def run(self) -> None:
        """Answer until cancelled. A consumer that is lost, by the broker or with its topic, is replaced."""
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
            await asyncio.sleep(delay_of(tries))
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
            asked = dict[Attempt, None]()
            for delivery in deliveries:
                try:
                    message = control.decode(delivery.message.body)
                except Exception as error:  # noqa: BLE001 (bytes from anywhere; a newer release may ask other things)
                    _logger.debug("%s: a message is passed over: %s", self._topic.name, error)
                    continue
                if isinstance(message, Ping):
                    asked |= dict.fromkeys(message.attempts)
                else:
                    self._hear(message)
            if known := list(self._known(asked).items()):
                await self._send(*(_alive(known[start : start + PAGE]) for start in range(0, len(known), PAGE)))

    async def ask(self, attempts: Iterable[Attempt]) -> dict[Attempt, bool]:
        """Those of these attempts that an executor has in hand (False), or whose report it has published (True).

        It takes a second, or less if all are known. One question at a time.
        """
        self._asked = set(attempts)
        self._heard = {}
        self._complete = asyncio.get_running_loop().create_future()
        wanted = list(self._asked)
        pages = [Ping(tuple(wanted[start : start + PAGE])) for start in range(0, len(wanted), PAGE)]
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
        self._heard |= {attempt: True for attempt in message.done if attempt in self._asked}
        if len(self._heard) == len(self._asked):
            wake(self._complete)

    async def _send(self, *messages: Ping | Alive) -> None:
        await self._publisher.send(
            self._topic, [Message("control", None, control.encode(message)) for message in messages]
        )


def _alive(known: Iterable[tuple[Attempt, bool]]) -> Alive:
    pairs = list(known)
    return Alive(
        tuple(attempt for attempt, done in pairs if not done), tuple(attempt for attempt, done in pairs if done)
    )
