"""Checks what is written, and keeps what follows from it."""

from __future__ import annotations

from collections.abc import Sequence
from zlib import crc32

import msgspec

from infinitic import ids
from infinitic.engines import effects, positions, state
from infinitic.engines.effects import Effect, SendTask
from infinitic.errors import DecodingError, InfiniticError
from infinitic.messages import commands, engine, events
from infinitic.messages.events import Event
from infinitic.replay.history import Replay, cut_to_run
from infinitic.replay.instance import Instance
from infinitic.replay.undone import find_undone
from infinitic.storage import Change, DamagedState, Duplicate, Outcome, Published, StateKey, Stored, Written
from infinitic.storage.arguments import MAX_LIMIT
from infinitic.storage.integrity import check_head, check_segment
from infinitic_testing.choices import Choices
from infinitic_testing.invariants.book import RunBook
from infinitic_testing.invariants.event_rules import EVENT_RULES
from infinitic_testing.invariants.instances import ObservedInstance, WrittenStep, name_sending
from infinitic_testing.invariants.listening import ListenerChecks
from infinitic_testing.invariants.step_rules import AFTER, BEFORE, RESULT
from infinitic_testing.invariants.tags import TagChecks
from infinitic_testing.invariants.traffic import Sent


def _must_arrive(effect: Effect) -> bool:
    """False for what nobody may be there to hear."""
    return not isinstance(effect, effects.CancelSent | effects.TellListeners)


_SETTLEMENTS = (
    events.TaskResult,
    events.TaskError,
    events.TaskTimeout,
    events.TaskCanceled,
    events.RemoteResult,
    events.RemoteError,
)


class CommitChecks:
    """Checks each commit.

    Args:
        book: what is known of the run.
        tags: checks custom ids.
        listening: checks what event listeners are told.
        choices: choose which closed instances are replayed; None: all are.
        replayed: the share of closed instances that are replayed at once, from 0.0 to 1.0.
    """

    def __init__(
        self, book: RunBook, tags: TagChecks, listening: ListenerChecks, choices: Choices | None, replayed: float
    ) -> None:
        self._book = book
        self._tags = tags
        self._listening = listening
        self._choices = choices
        self._replayed = replayed
        self._expiring: dict[StateKey, float] = {}

    def commit(self, changes: Sequence[Change | Published], outcomes: Sequence[Outcome]) -> None:
        """Check what was written of these changes."""
        for change, outcome in zip(changes, outcomes, strict=True):
            if isinstance(change, Published):
                if isinstance(outcome, Written):
                    self._check_mark(change)
            elif isinstance(outcome, Written):
                self._check_change(change, outcome)
            elif isinstance(outcome, Duplicate):
                self._check_duplicate(change, outcome)

    def purge(self, now: float) -> None:
        """Note what was purged.

        Args:
            now: what had expired by then, in seconds since the Unix epoch.
        """
        expired = [key for key, due in self._expiring.items() if due <= now]
        stored = self._book.database.load(expired)
        for key in expired:
            if key not in stored:
                self._book.instances[key].purged = True
                del self._expiring[key]

    def _check_mark(self, mark: Published) -> None:
        book, instance = self._book, self._book.instances.get(mark.key)
        wrong: str | None = None
        if instance is None or instance.version != mark.version:
            wrong = f"version {mark.version} is marked as published, and it is not there"
        elif instance.unpublished:
            book.drop_gone_clients(instance)
            if instance.unpublished:
                wrong = f"it is marked as published, and was not published: {list(instance.unpublished)}"
        book.judge("mark-true", wrong, mark.key)
        self._listening.check_mark(mark.key)

    def _check_duplicate(self, change: Change, outcome: Duplicate) -> None:
        instance = self._book.instances.get(change.key)
        known = {} if instance is None else instance.taken
        unknown = [each for each in outcome.deduplication_ids if each not in known]
        wrong = f"inputs are said to be taken before, and were not: {unknown}" if unknown else None
        self._book.judge("input-once", wrong, change.key)

    def _check_change(self, change: Change, outcome: Written) -> None:
        book, key = self._book, change.key
        try:
            step = self._read(change)
        except (DecodingError, DamagedState, msgspec.MsgspecError) as error:
            book.judge("head-matches-history", f"what was written cannot be read: {error}", key)
            return
        stored = book.database.load([key]).get(key)
        found = None if stored is None else stored.version
        if found != change.version or outcome.version != change.version:
            book.judge("one-writer", f"version {change.version} was said to be written, and {found} is there", key)
        sent = book.traffic.sent_to(key)
        before = step.instance
        if before is not None and before.unpublished:
            book.drop_gone_clients(before)
        self._tags.check_step(step)
        self._listening.note_commit(step)
        for rule in BEFORE:
            if rule.applies(step) and (rule.name != "signal-order" or book.is_ordered):
                book.judge(rule.name, rule.check(step, sent), key)
        instance = self._apply(step, sent)
        for rule in RESULT:
            if rule.applies(step):
                book.judge(rule.name, rule.check(step, sent), key)
        for final in AFTER:
            if final.applies(step):
                book.judge(final.name, final.check(step, instance), key)
        if step.head.closed and step.events:
            # Code that has failed may be mended by the time that an operator asks for it again.
            self._check_replay(instance)

    def _read(self, change: Change) -> WrittenStep:
        key, segment = change.key, change.segment
        checked = check_head(key, Stored(change.version, change.head, 0, False))
        if checked.damage:
            raise DamagedState(key, "The head", checked.damage)
        happened: Sequence[Event] = ()
        outbox: Sequence[Effect] = ()
        if segment is not None:
            segment = check_segment(key, segment)
            happened = events.decode(segment.events)
            if segment.outbox is not None:
                outbox = effects.decode(segment.outbox).effects
        return WrittenStep(key, self._book.instances.get(key), change, state.decode(checked.head), happened, outbox)

    def _apply(self, step: WrittenStep, sent: Sent) -> ObservedInstance:
        """Add a step to what is known of its instance. Each event is checked before that."""
        book, key, change, head = self._book, step.key, step.change, step.head
        instance = step.instance
        if instance is None or instance.purged:
            instance = book.instances[key] = ObservedInstance(key, head, change.version, book.clock.now())
        history = instance.history
        self._note_taken(instance, step)
        for event in step.events:
            for rule, check in EVENT_RULES.get(type(event), ()):
                book.judge(rule, check(event, history, step, sent), key)
            history.add(event, head.sequence)
            if isinstance(event, events.Reopened):
                instance.reopened_at = book.clock.now()
            if isinstance(event, events.RunStarted):
                instance.sent.clear()
                instance.settled.clear()
                instance.counted.clear()
            if isinstance(event, _SETTLEMENTS):
                instance.settled[event.position, history.sequences.get(event.position, 0)] = change.version
        instance.head, instance.version = head, change.version
        instance.head_checksum = crc32(change.head)
        for deduplication_id in change.deduplication_ids:
            instance.taken[deduplication_id] = change.version
            found = sent.inputs.get(deduplication_id)
            if found is not None and isinstance(found.message, engine.Signal):
                instance.senders[found.sender] = max(found.number, instance.senders.get(found.sender, 0))
        if change.segment is not None:
            history.sequence = change.segment.sequence
            instance.checksums.append(crc32(change.segment.events))
            instance.written = change.version
            instance.had_outbox = bool(step.outbox)
            instance.unpublished = {name_sending(effect, head): None for effect in step.outbox if _must_arrive(effect)}
            self._note_outbox(instance, step.outbox)
            self._note_requests(instance, step.outbox)
        if head.armed is not None:
            instance.wakes.add(head.armed)
        instance.expires_at = change.expires_at
        if change.expires_at is not None:
            self._expiring[key] = change.expires_at
        else:
            self._expiring.pop(key, None)
        return instance

    @staticmethod
    def _note_taken(instance: ObservedInstance, step: WrittenStep) -> None:
        """Note which inputs without a deduplication id this step takes, by what changes."""
        if step.instance is not instance:
            # It is new.
            return
        before, head, version = instance.head, step.head, step.change.version
        if before.armed is not None and before.armed != head.armed and before.armed <= step.change.at:
            instance.woken[before.armed] = version
        if before.deciding and (not head.deciding or head.activation != before.activation):
            instance.decided[before.activation, before.epoch] = version
        for event in step.events:
            if isinstance(event, events.AttemptError):
                history = instance.history
                sequence, index = history.sequences.get(event.position, 0), history.attempts.get(event.position, 0)
                instance.counted[event.position, sequence, index] = version

    def _note_requests(self, instance: ObservedInstance, outbox: Sequence[Effect]) -> None:
        """Note what an outbox asks of other instances, and what of that it cancels."""
        head = instance.head
        for effect in outbox:
            if isinstance(effect, effects.TellReopened):
                to = effect.reply_to
                told = ids.reopened_id(instance.head.id, instance.head.epoch, to.request)
                instance.told_reopened.add((StateKey(to.workflow, to.client), told))
            if isinstance(effect, effects.SendRemote):
                remote_id = ids.remote_id(head.id, head.run, effect.position, effect.retry_sequence)
                self._book.requesters[remote_id] = (instance.key, effect.position)
            elif isinstance(effect, effects.CancelSent):
                repeated = dict(effect.repeated)
                for block in effect.blocks:
                    for position in positions.list_positions(block):
                        if effect.run is not None:
                            # A new run has begun: what this one asked for is not known any more.
                            continue
                        request = instance.history.requests[position]
                        if isinstance(request, commands.StartChild | commands.CallRemote):
                            child_id = ids.remote_id(head.id, head.run, position, repeated.get(position, 0))
                            self._book.requesters[ids.cancel_id(child_id)] = (instance.key, position)
                            instance.unpublished["remote", ids.cancel_id(child_id)] = None

    @staticmethod
    def _note_outbox(instance: ObservedInstance, outbox: Sequence[Effect]) -> None:
        for effect in outbox:
            if isinstance(effect, SendTask):
                instance.sent.add((effect.position, effect.retry_sequence, effect.retry_index))
            elif isinstance(effect, effects.ArmWake):
                instance.wakes.add(effect.due)

    def _check_replay(self, instance: ObservedInstance) -> None:
        """Check that the code of an instance gives the commands of its history again, if chosen.

        An instance whose code is hosted nowhere is passed over.
        """
        if self._choices is not None and not self._choices.happens("invariants/replay", self._replayed):
            return
        book, key, head = self._book, instance.key, instance.head
        spec = None if head.version is None else book.specs(head.name).get(head.version)
        if spec is None or head.stalled is not None:
            return
        live = Instance(spec, head.id, head.meta, head.run)
        wrong: str | None = None
        try:
            segments = book.database.history(key, limit=MAX_LIMIT)
            happened = [event for each in segments for event in events.decode(check_segment(key, each).events)]
            history = cut_to_run(happened)
            replay = Replay(live, find_undone(history))
            replay.feed(history)
            replay.finish(unanswered=head.deciding != 0)
        except DamagedState:
            # An instance may be terminated though its history is damaged: see "history-kept".
            return
        except InfiniticError as error:
            wrong = f"a replay differs: {error}"
        finally:
            live.close()
        book.judge("replay-same", wrong, key)
