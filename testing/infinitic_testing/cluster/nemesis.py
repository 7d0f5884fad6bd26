"""Makes the faults that happen to workers and servers, and says when faults begin and end.

It counts what takes effect at broker and storage. A run begins quiet. Then there are faults for a
drawn number of effects, or a drawn time. Then the run is healed, and no fault happens any more.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from contextvars import Context
from math import inf
from typing import TYPE_CHECKING, Any

from infinitic.errors import DecodingError
from infinitic.messages import service
from infinitic.storage import Change, Outcome, Published, Written
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message
from infinitic_testing.cluster.actions import ACTIONS
from infinitic_testing.cluster.actions.messages import SENDER
from infinitic_testing.cluster.member import Member
from infinitic_testing.cluster.task_faults import CUT
from infinitic_testing.faults.plan import Phase
from infinitic_testing.loop import Process
from infinitic_testing.observing import Observer

if TYPE_CHECKING:
    from infinitic_testing.cluster.cluster import Cluster

SHORT_QUIET, LONG_QUIET = 12, 400
"""After how many effects faults begin at the latest: in most runs soon, in a few of them late."""

TURN, FIERCE_TURN = 8, 2
"""After so many effects it is drawn which faults happen next: more often in a fierce run."""

REMEMBERED = 500
"""How many of the last messages may be sent again."""

MOST_DEATHS = 4
"""When a task has had so many deaths, the run is healed: one more, and the engine gives it up.

Giving it up is right, but then the outcome is not that of a run without faults.
"""

LONGEST_ABSENCE = 3.0
"""Seconds until a worker that ended is replaced, at most."""

_DURATIONS = (10.0, 1.0, 100.0, 100_000.0)
"""How many seconds a run may have faults, at most."""


class Nemesis(Observer):
    """The source of faults. It is in no process: nothing that it does can be killed.

    Attributes:
        cluster: what it torments.
        recorded: the last messages that workers and clients have published.
        injected: the ids of the bad messages that it has sent.

    Args:
        cluster: what it torments.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.recorded: deque[tuple[Topic, Message]] = deque(maxlen=REMEMBERED)
        self.injected: set[str] = set()
        self._plan = cluster.plan
        self._choices = cluster.choices
        self._effects = 0
        # The number of effects at which something is to be done next.
        self._next: float = inf
        self._ends_at = inf
        self._over: asyncio.Event = asyncio.Event()
        self._healing: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._turn = FIERCE_TURN if self._plan.is_fierce else TURN
        self._actions = [action for action in ACTIONS if self._plan.has(action.fault)]
        self._context = Context()
        self._alarm: asyncio.TimerHandle | None = None

    @property
    def is_over(self) -> bool:
        """True once faults have ended."""
        return self._over.is_set()

    # When.

    def begin(self) -> None:
        """Begin the quiet time of the run, if the run has any faults."""
        if self._plan.rates:
            longest = LONG_QUIET if self._choices.happens("phase/late", 0.2) else SHORT_QUIET
            self._next = self._effects + self._choices.pick("phase/quiet", longest)
            self._ends_at = self._next + 20 + 600 * self._choices.between("phase/faulty", 0.0, 1.0) ** 2
            if self._next == self._effects:
                self._begin_faults()

    def end(self) -> None:
        """Do nothing any more: the run is over."""
        self._stop_faults()
        for task in self._tasks:
            task.cancel()

    def _begin_faults(self) -> None:
        self._plan.phase = Phase.FAULTY
        self._next = self._effects + self._turn
        seconds = _DURATIONS[self._choices.pick("phase/seconds", len(_DURATIONS))]
        seconds = min(seconds, self.cluster.database.deduplication_window / 6)
        self.cluster.log.note("simulation", "faulty", f"for {seconds:g} s at most")
        self._alarm = asyncio.get_running_loop().call_later(seconds, self.heal_soon, context=self._context)

    def _advance(self) -> None:
        if self._plan.phase is Phase.QUIET:
            self._begin_faults()
        elif self._effects >= self._ends_at:
            self.heal_soon()
        else:
            self._next = self._effects + self._turn
            # Later in this instant: something takes effect just now.
            asyncio.get_running_loop().call_soon(self._take_turn, context=self._context)

    def _take_turn(self) -> None:
        """Draw which faults happen now."""
        for action in self._actions:
            if action.is_possible(self) and self._plan.draw(action.fault, factor=action.factor):
                if not action.counts_itself:
                    self.count(action.fault)
                self.run(action.act(self))

    def count(self, fault: str) -> None:
        """Count a fault that has happened.

        Args:
            fault: its name in the catalog.
        """
        self._plan.count(fault)

    def run(self, action: Coroutine[Any, Any, None]) -> None:
        """Run an action, in no process.

        Args:
            action: what is done.
        """
        task = asyncio.get_running_loop().create_task(action, name="nemesis", context=self._context.copy())
        self._tasks.add(task)
        task.add_done_callback(self._note_done)

    def _note_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.cluster.fail(error)

    async def pass_time(self, seconds: float) -> None:
        """Let time pass, but not longer than there are faults.

        Args:
            seconds: how long.
        """
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            pass

    # Healing.

    def heal_soon(self) -> None:
        """Let faults end now, if they have not ended yet."""
        if self._healing is None:
            self._stop_faults()
            self._healing = asyncio.get_running_loop().create_task(
                self._heal(), name="nemesis", context=self._context.copy()
            )

    def _stop_faults(self) -> None:
        self._next = inf
        self._plan.phase = Phase.HEALED
        self._over.set()
        if self._alarm is not None:
            self._alarm.cancel()

    async def heal(self) -> None:
        """Let faults end now, and wait until all is as it should be."""
        self.heal_soon()
        assert self._healing is not None
        await self._healing

    async def _heal(self) -> None:
        cluster = self.cluster
        cluster.log.note("simulation", "healed")
        cluster.network.heal()
        for member in cluster.living():
            member.process.resume()
            member.clock.offset = 0.0
        while self._tasks:
            await asyncio.wait(self._tasks)
        cluster.fill_seats()

    # To workers.

    def pick_member(self, label: str) -> Member | None:
        """Draw a worker that is alive. None: there is none.

        Args:
            label: of the choice.
        """
        living = self.cluster.living()
        return living[self._choices.pick(label, len(living))] if living else None

    def kill(self, member: Member) -> None:
        """Cut the power of a worker, and replace it.

        Args:
            member: the worker. If it is dead already, nothing happens.
        """
        if member.process.is_alive:
            member.process.kill()
            self.run(self.replace(member))

    async def replace(self, member: Member) -> None:
        """Start a worker on the seat of one that has ended, after a while, unless there is one.

        Args:
            member: the worker that has ended.
        """
        await self.pass_time(self._choices.between("nemesis/absence", 0.0, LONGEST_ABSENCE))
        if not self.cluster.find_working(member.seat):
            self.cluster.start_member(member.seat)

    # What takes effect.

    def _step(self) -> None:
        self._effects += 1
        if self._effects >= self._next:
            self._advance()

    def published(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
        if who == SENDER:
            return
        for message in messages:
            self.recorded.append((topic, message))
            if b'"d":' in message.body and topic.name.startswith("service-executor:"):
                self._look_at_deaths(message)
        if self._plan.phase is Phase.FAULTY:
            self._cut_here(who, "cuts-before-ack")
        self._step()

    def delivered(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self._step()

    def acknowledged(self, who: str, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        self._step()

    def committed(self, who: str, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
        if self._plan.phase is Phase.FAULTY and any(isinstance(outcome, Written) for outcome in outcomes):
            self._cut_here(who, "cuts-before-publish")
        self._step()

    def _cut_here(self, who: str, fault: str) -> None:
        """Draw whether a worker ends right after this effect: it never learns of it."""
        if not self._plan.has(fault):
            return
        member = self._find_member(who)
        if member is not None and self._plan.fires(fault):
            self._call(lambda: self.kill(member))

    def cut_after_task(self, process: Process | None) -> None:
        """Kill the worker of a process, in which a task has just ended. It tells nobody of that.

        Args:
            process: its process.
        """
        member = next((each for each in self.cluster.living() if each.process is process), None)
        if member is not None:
            self.count(CUT)
            self._call(lambda: self.kill(member))

    def _find_member(self, name: str) -> Member | None:
        return next((each for each in self.cluster.living() if each.name == name), None)

    def _call(self, action: Callable[[], None]) -> None:
        """Do something now that must not be done in a process."""
        self._context.copy().run(action)

    def _look_at_deaths(self, message: Message) -> None:
        # A worker that stops also hands on what nobody can decode.
        with suppress(DecodingError):
            if service.decode(message.body).deaths >= MOST_DEATHS:
                self._call(self.heal_soon)
