"""Opening an activation: what it hands over comes with its message, or is read from the history."""

from __future__ import annotations

from infinitic.messages.executor import Activate
from infinitic.replay.history import Replay
from infinitic.replay.instance import Instance
from infinitic.replay.undone import Undone
from infinitic.runtime.history import decode_head, feed_history, read_reopenings
from infinitic.runtime.workflow_executor.stimuli import Opened, Unread, read_stimuli
from infinitic.storage import DamagedState, StateKey, StateStorage


class ActivationOver(Exception):
    """Nobody waits for the decision of this activation any more."""


class Opening:
    """Finds what the activations of one workflow hand over.

    Args:
        name: the workflow.
        states: where histories are read.
    """

    def __init__(self, name: str, states: StateStorage) -> None:
        self._name = name
        self._states = states

    async def open(
        self, instance: Instance, message: Activate, *, replay: bool, unread: Unread | None = None
    ) -> Opened:
        """Find what an activation hands over to an instance.

        Args:
            instance: the live instance.
            message: the activation.
            replay: whether the instance is a new one, which first runs all that was before.
            unread: what the activation before has left, if it was made here.

        Raises:
            ActivationOver: nobody waits for the decision.
            DamagedState: the history is damaged.
        """
        key = StateKey(self._name, instance.id)
        opened: Opened | None
        if replay and (message.activation > 1 or message.first):
            opened = await self._replay(instance, key, message)
        elif message.first:
            opened = await self._read(key, message, unread)
        else:
            opened = Opened(message.at, message.stimuli, message.each, more=False)
        if opened is not None:
            return opened
        if await self._is_over(key, message):
            raise ActivationOver
        raise DamagedState(key, "The history", f"it does not hold activation {message.activation}")

    async def _read(self, key: StateKey, message: Activate, unread: Unread | None) -> Opened | None:
        try:
            return await read_stimuli(self._states, key, message, unread)
        except DamagedState:
            if await self._is_over(key, message):
                raise ActivationOver from None
            raise

    async def _replay(self, instance: Instance, key: StateKey, message: Activate) -> Opened | None:
        try:
            reopenings = await read_reopenings(key, message.undone, self._states)
            replay = Replay(instance, Undone(reopenings) if reopenings else None)
            check = await feed_history(replay, key, message.sequence, self._states, message.base)
            unanswered = replay.finish(unanswered=True)
        except DamagedState:
            if await self._is_over(key, message):  # purged, say
                raise ActivationOver from None
            raise
        if unanswered is None or unanswered[0].number != message.activation:
            return None
        opened, stimuli = unanswered
        instance.rerun = replay.rerun
        return Opened(opened.at, stimuli, opened.each, more=False, size=check.bytes)

    async def _is_over(self, key: StateKey, message: Activate) -> bool:
        """True if nobody waits for the decision: the instance has gone on, or is closed or gone."""
        stored = (await self._states.load([key])).get(key)
        if stored is None:
            return True
        head = decode_head(key, stored)
        return not head.deciding or (head.activation, head.epoch) != (message.activation, message.epoch)
