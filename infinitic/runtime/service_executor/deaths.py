"""Who is to blame when a process dies: how deaths are counted, and which tasks run alone.

A redelivery tells little: its process died, or only its session was lost, or the message only
waited there. So the other executors are asked (`Inquiry`). If nobody has the attempt, this counts
as a *death*. It is a weak sign: every task that was in hand beside the culprit shows it, too. Weak
signs count up to `SUSPECT` deaths.

A task with so many deaths is a *suspect*. It runs only while no other suspect runs in its process
(`Trials`). Before it runs, a marked copy of its message is published that is due later. If nobody
knows of the attempt when that copy comes, the process has died with this task: only then another
death counts. So only the culprit gets as far as `MAX_DEATHS`. The tasks that were in hand beside it
run normally in the end.
"""

from __future__ import annotations

from collections.abc import Mapping

from infinitic.messages.control import Attempt
from infinitic.runtime.service_executor.work import Outbound, Work

SUSPECT = 2
"""Deaths from which on a task is a suspect. Weak signs count up to here."""

MAX_DEATHS = 5
"""Deaths after which a task fails without another run."""

ELSEWHERE_SECONDS = 30.0
"""Seconds until a message is looked at again whose attempt another executor has in hand."""

MARKED_COPY_SECONDS = 5.0
"""Seconds until a marked copy is due, and until it is asked a second time who has the attempt.

Between the two, an attempt that was handed back is taken by another executor.
"""

TURN_SECONDS = 0.25
"""Seconds between suspects that have to wait for another one: they come again one by one."""


class Trials:
    """Lets one suspect at a time run in this process, whatever its service."""

    def __init__(self) -> None:
        self._busy = False
        self._behind = 0

    def begin(self, work: Work) -> bool:
        """Let this suspect run, if no other one does. Returns whether it may."""
        if self._busy:
            return False
        self._busy = work.on_trial = True
        self._behind = 0
        return True

    def end(self, work: Work) -> None:
        """Let another suspect run, if `work` is the one that runs."""
        if work.on_trial:
            self._busy = work.on_trial = False

    def choose_delay(self) -> float:
        """Choose the seconds until a suspect that may not run comes again.

        Each one comes a little later than the one before it.
        """
        self._behind += 1
        return TURN_SECONDS * self._behind


def judge(work: Work, heard: Mapping[Attempt, bool], now: float, durability: float) -> Outbound | None:
    """Decide what becomes of an attempt in doubt whose report nobody has published.

    Args:
        work: the attempt.
        heard: what the other executors answered, see `Inquiry.ask`.
        now: the time of day, in seconds since the Unix epoch.
        durability: seconds after which an acknowledgement survives a crash of the broker.

    Returns:
        The message to send in its place. None: it is to run.
    """
    message = work.message
    if work.attempt in heard:
        # It runs elsewhere. A session was lost, or this is the marked copy of a suspect.
        return work.make_copy(now + ELSEWHERE_SECONDS, asked=1)
    if message.asked == 1:
        return work.make_copy(now + MARKED_COPY_SECONDS, asked=2)
    if message.deaths < SUSPECT:
        # It is due when the acknowledgement of this delivery is safe. Sooner, a crash of the broker
        # would bring back this delivery, which does not have the count.
        due = now + durability if durability else None
        return work.make_copy(due, asked=0, deaths=message.deaths + 1)
    return None
