"""The phases 3 to 5 of a step as one, where broker and storage are the same database.

Head, history and outbox are written, the messages are sent, and the inputs acknowledged in one
transaction: all of it if the compare-and-set succeeds, and otherwise nothing.

What a crash here does: the step has happened, or it has not. So its outbox is written as published:
whoever takes the instance over has nothing to publish again. If the outcome is unknown, the
instance is loaded again, which shows it, and inputs that were taken are recognised.

Some steps go the ordinary way, phase by phase: those that change nothing, those with dead letters,
and those of which the broker refuses a message. Nothing of them has happened here.
"""

from __future__ import annotations

from msgspec.structs import replace

from infinitic.runtime.state_engine.closing import DecidedStep
from infinitic.runtime.state_engine.committing import CommittedSteps, Committing
from infinitic.runtime.state_engine.publishing import PublishedSteps, Publishing
from infinitic.runtime.state_engine.settling import Settling
from infinitic.runtime.subscription import Subscription
from infinitic.shared_commit import SharedCommit, Unsent, WholeStep
from infinitic.storage import Outcome, ValueTooLarge


class CommittingWhole:
    """Writes, sends and acknowledges steps of one workflow at once.

    Args:
        shared: does it.
        subscription: where the messages came from.
        committing: takes over what was written.
        publishing: answers those who have asked twice.
        settling: lets the lanes go on.
    """

    def __init__(
        self,
        shared: SharedCommit,
        subscription: Subscription,
        committing: Committing,
        publishing: Publishing,
        settling: Settling,
    ) -> None:
        self._shared = shared
        self._subscription = subscription
        self._committing = committing
        self._publishing = publishing
        self._settling = settling

    async def commit(self, decided: list[DecidedStep]) -> list[DecidedStep]:
        """Write, send and acknowledge what was decided.

        Returns:
            The steps that have to go the ordinary way. Nothing of them has happened.

        Raises:
            StorageError: the database fails. The outcome of each of these steps is unknown.
            TransportError: likewise.
        """
        consumer = self._subscription.consumer
        ordinary: list[DecidedStep] = []
        steps: list[DecidedStep] = []
        whole: list[WholeStep] = []
        for step in decided:
            change = step.change
            if change is None or step.inputs.dead_letters:
                ordinary.append(step)
                continue
            if not change.published:
                change = replace(change, published=True)
            steps.append(step)
            whole.append(WholeStep(change, step.outgoing, consumer, step.inputs.deliveries))
        if not whole:
            return decided
        try:
            outcomes = await self._shared.commit(whole)
            happened: list[DecidedStep] = []
            settled: list[Outcome] = []
            for step, each, outcome in zip(steps, whole, outcomes, strict=True):
                if isinstance(outcome, Unsent):
                    ordinary.append(step)
                else:
                    happened.append(replace(step, change=each.change))
                    settled.append(outcome)
            committed = await self._committing.sort_out(happened, settled)
        except ValueTooLarge:
            # Nothing has happened. The ordinary way finds out which one it is.
            return decided
        except Exception:
            self._committing.keep_news(steps)
            raise
        self._settling.settle_acknowledged(PublishedSteps(committed.steps, ()))
        if committed.repeats:
            await self._settling.settle(await self._publishing.publish(CommittedSteps((), committed.repeats)))
        return ordinary
