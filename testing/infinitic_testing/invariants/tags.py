"""Checks tags and custom ids: what engines say of them, and what is stored (S31, S32)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from infinitic import ids, topics
from infinitic.engines.workflow.claimed_starts import count_claims
from infinitic.engines.workflow.tags import render_tags
from infinitic.errors import DecodingError
from infinitic.messages import client, tags
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.events import Started
from infinitic.messages.tags import (
    AddTag,
    ByTag,
    CancelUnique,
    ClaimAgain,
    GetIds,
    Reclaim,
    RemoveTag,
    StartUnique,
    TagMessage,
    ToHolder,
)
from infinitic.runtime.publisher import CAUSE
from infinitic.storage import Claim, StateKey, TagChange, TagKey, TagKind
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message
from infinitic_testing.invariants.book import RunBook
from infinitic_testing.invariants.instances import ObservedInstance, WrittenStep
from infinitic_testing.invariants.task_tags import TaskTagChecks
from infinitic_testing.invariants.traffic import Copies

KIND = "workflow-tag"
"""The kind of the topics of tag engines."""


class TagChecks:
    """Checks what is published to tag engines, acknowledged by them, and stored.

    Args:
        book: what is known of the run.

    Attributes:
        tasks: checks the tags of tasks.
    """

    def __init__(self, book: RunBook) -> None:
        self.tasks = TaskTagChecks(book)
        self._book = book
        self._written: dict[tuple[TagKey, str], int] = {}
        self._claimed: dict[tuple[TagKey, str], Claim] = {}
        self._holders: dict[TagKey, StateKey] = {}
        self._sent: dict[StateKey, set[tuple[str | None, int]]] = {}

    # What is stored.

    def note_changes(self, changes: Sequence[TagChange]) -> None:
        """Note changes that the storage has taken."""
        self.tasks.note_changes(changes)
        for each in changes:
            member = (each.key, each.id)
            self._written[member] = max(each.version, self._written.get(member, 0))

    def note_claim(self, asked: TagChange, claim: Claim) -> None:
        """Note what became of a claim. A repeat must be told the same.

        If an operator wants to re-open an instance, or has replayed its start, that depends on who
        holds the custom id.
        """
        if asked.version:
            return
        member = (asked.key, asked.id)
        before = self._claimed.setdefault(member, claim)
        wrong = None if before.id == claim.id else f"a claim is told {claim.id}, and was told {before.id} before"
        self._book.judge("unique-holder", wrong, StateKey(asked.key.name, asked.id))

    def check_step(self, step: WrittenStep) -> None:
        """Check a step that creates or re-opens an instance with a custom id."""
        self.tasks.check_step(step)
        before = step.instance
        if before is None or before.purged:
            started = next((event for event in step.events if isinstance(event, Started)), None)
        elif before.head.closed and not step.head.closed:
            started = before.history.started
        else:
            return
        if started is None or not started.custom_id:
            return
        unique = TagKey(TagKind.CUSTOM_ID, step.key.name, started.custom_id)
        holder = self._holders.get(unique)
        other = None if holder is None else self._book.instances.get(holder)
        wrong = None
        if other is not None and not other.is_over and holder != step.key:
            wrong = f"it has the custom id {started.custom_id!r}, as {holder} has, which still runs"
        self._book.judge("unique-holder", wrong, step.key)
        self._holders[unique] = step.key

    def check_stored(self) -> None:
        """Check that running instances have their tags and custom ids, and closed ones none."""
        self.tasks.check_stored()
        for key, instance in self._book.instances.items():
            for tag in _list_tags(key, instance.history.started):
                found = key.id in self._list_members(tag)
                wrong = None
                if found and instance.is_over:
                    wrong = f"it is closed, and still has {tag.kind.value} {tag.tag!r}"
                elif not found and not instance.is_over:
                    wrong = f"it runs, and has not {tag.kind.value} {tag.tag!r}"
                self._book.judge("tags-true", wrong, key)

    def _list_members(self, tag: TagKey) -> set[str]:
        found: list[str] = []
        while True:
            page = self._book.database.tags.members(tag, until=None, after=found[-1] if found else "", limit=1000)
            found += page
            if len(page) < 1000:
                return set(found)

    # What is sent.

    def publish(self, topic: Topic, message: Message) -> None:
        """Check a message to a tag engine that the broker has just accepted."""
        name = topic.name.partition(":")[2]
        self._find_copies(topic, message).published += 1
        decoded = _decode(message.body)
        key = _read_key(name, message)
        self._note_request(decoded)
        if isinstance(decoded, StartUnique) and count_claims(message.headers):
            self._book.traffic.sent_to(StateKey(name, decoded.id)).claims += 1
        if isinstance(decoded, ClaimAgain):
            claiming = self._book.instances.get(StateKey(name, decoded.id))
            if claiming is not None:
                claiming.unpublished.pop(("claim", bytes(decoded.input)), None)
        if key is None or not isinstance(decoded, AddTag | RemoveTag):
            return
        at = StateKey(name, decoded.id)
        instance = self._book.instances.get(at)
        self._book.judge("cause-durable", _find_wrong_cause(key, decoded, instance), at)
        if instance is not None:
            self._note_sent(instance, message.key, decoded)

    def _note_request(self, message: TagMessage | None) -> None:
        """Note that what an instance asks of another one is published."""
        match message:
            case StartUnique():
                asked = message.id
            case ByTag() | ToHolder():
                asked = message.operation
            case CancelUnique():
                asked = ids.cancel_id(message.id)
            case _:
                return
        requester = self._book.requesters.get(asked)
        if requester is not None:
            self._book.instances[requester[0]].unpublished.pop(("remote", asked), None)

    def _note_sent(self, instance: ObservedInstance, key: str | None, message: AddTag | RemoveTag) -> None:
        """Note that a part of what an outbox says of tags is published."""
        sent = self._sent.setdefault(instance.key, set())
        sent.add((key, message.version))
        for sending in [each for each in instance.unpublished if each[0] == "tags"]:
            effect, started = sending[1], instance.history.started
            if started is None:
                continue
            expected = render_tags(effect, instance.head, [started], 0.0)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # named so by `name_sending`
            wanted = {(each.message.key, _read_version(each.message.body)) for each in expected}
            if wanted <= sent:
                del instance.unpublished[sending]

    def check_dead_letter(self, origin: str, message: Message) -> None:
        """Check a dead letter that came from the topic `origin` of a tag engine."""
        traffic = self._book.traffic
        traffic.dead.add((topics.DEAD_LETTERS + origin, message.body))
        traffic.dead_ids.add((topics.DEAD_LETTERS + origin, message.id))
        decoded = _decode(message.body)
        key = _read_key(origin.partition(":")[2], message)
        wrong: str | None = None
        if not message.headers.get(CAUSE):
            wrong = f"it has no reason: {message}"
        elif decoded is not None and key is not None:
            # The clocks of workers may differ.
            is_old = self._book.clock.now() - decoded.made_at > self._book.database.deduplication_window / 2
            if not is_old and not _is_unfit(key, decoded):
                wrong = f"it can be handled: {decoded}"
        self._book.judge("dead-letter-deserved", wrong)

    def acknowledge(self, topic: Topic, deliveries: Sequence[Delivery], is_dead: Callable[[Delivery], bool]) -> None:
        """Check deliveries of which the broker has just been told that they are done.

        Args:
            topic: where they came from.
            deliveries: all of them.
            is_dead: tells whether one was published to the dead letters.
        """
        name = topic.name.partition(":")[2]
        for delivery in deliveries:
            copies = self._find_copies(topic, delivery.message)
            copies.settled.add(delivery.published_at)
            if is_dead(delivery) or copies.left > 0:
                continue
            decoded = _decode(delivery.message.body)
            key = _read_key(name, delivery.message)
            if decoded is None or key is None:
                self._book.judge("ack-after-commit", f"it cannot be decoded, and is no dead letter: {delivery.message}")
            elif not isinstance(decoded, ByTag):
                self._book.judge("ack-after-commit", self._find_undone(key, decoded), StateKey(name, _read_id(decoded)))

    def _find_undone(
        self,
        key: TagKey,
        message: AddTag | RemoveTag | GetIds | StartUnique | Reclaim | ToHolder | CancelUnique | ClaimAgain,
    ) -> str | None:
        match message:
            case AddTag() | RemoveTag():
                written = self._written.get((key, message.id), -1)
                return None if written >= message.version else f"it is not in the storage: {message}"
            case GetIds():
                return None if self._book.is_told(message.reply_to) else f"nobody is answered: {message}"
            case Reclaim():
                started = self._book.traffic.sent_to(StateKey(key.name, message.id)).starts
                return None if started else f"nothing is started: {message}"
            case StartUnique():
                claim = self._claimed.get((key, message.id))
                if claim is None:
                    return f"it is not in the storage: {message}"
                at = StateKey(key.name, message.id)
                if claim.granted and not self._book.traffic.sent_to(at).starts:
                    return f"the custom id is claimed, and nothing is started: {message}"
                if message.reply_to is not None and message.reply_to.workflow:
                    asked = (message.reply_to.client, message.reply_to.request) in self._book.traffic.requests
                    return None if asked else f"an instance waits, and does not wait for the holder: {message}"
                told = message.reply_to is None or self._book.is_told(message.reply_to)
                return None if told else f"nobody is answered: {message}"
            case ToHolder():
                return self._find_unsent(message)
            case CancelUnique() | ClaimAgain():
                return None

    def _find_unsent(self, message: ToHolder) -> str | None:
        """Somebody who waits is told that nobody holds the custom id, or the holder was asked."""
        to = message.reply_to
        if to is None:
            return None
        request = (to.client, to.request)
        told = request in self._book.traffic.requests or request in self._book.traffic.answers
        return None if told else f"it was sent to nobody: {message}"

    def _find_copies(self, topic: Topic, message: Message) -> Copies:
        return self._book.traffic.copies_of((topic.name, message.key, message.body))


def read_request(body: bytes) -> client.ReplyTo | None:
    """Read whom a message to a tag engine wants to be answered."""
    decoded = _decode(body)
    return decoded.reply_to if isinstance(decoded, GetIds | StartUnique | ToHolder) else None


def _find_wrong_cause(key: TagKey, message: AddTag | RemoveTag, instance: ObservedInstance | None) -> str | None:
    """An engine says of an instance what is in the storage. What clients say has no cause."""
    if isinstance(message, AddTag):
        started = None if instance is None else instance.history.started
        has_it = started is not None and key.tag in started.tags
        return None if message.version == tags.ADDED_BY_CLIENT or has_it else f"it was not started: {message}"
    if instance is not None and not instance.is_over:
        epoch = instance.head.epoch
        added = tags.version_claimed(epoch) if key.kind is TagKind.CUSTOM_ID else tags.version_added(epoch)
        if message.version < added:
            # A repeat, of before it was re-opened: it has no effect.
            return None
        return f"it is taken off {key.tag!r}, and it runs: {message}"
    return None


def _is_unfit(key: TagKey, message: TagMessage) -> bool:
    if isinstance(message, AddTag):
        return key.kind is TagKind.CUSTOM_ID
    if isinstance(message, Reclaim):
        # Another instance may hold the custom id.
        return True
    return isinstance(message, StartUnique | ToHolder | CancelUnique) and key.kind is not TagKind.CUSTOM_ID


def _list_tags(key: StateKey, started: Started | None) -> Iterator[TagKey]:
    if started is None:
        return
    for tag in started.tags:
        yield TagKey(TagKind.WORKFLOW, key.name, tag)
    if started.custom_id:
        yield TagKey(TagKind.CUSTOM_ID, key.name, started.custom_id)


def _decode(body: bytes) -> TagMessage | None:
    try:
        decoded: TagMessage = tags.decode(body)
    except DecodingError:
        return None
    return decoded


def _read_key(name: str, message: Message) -> TagKey | None:
    try:
        read = tags.read_key(message.key)
    except UndecodableMessage:
        return None
    return TagKey(TagKind.CUSTOM_ID if read.unique else TagKind.WORKFLOW, name, read.name)


def _read_version(body: bytes) -> int:
    decoded = _decode(body)
    assert isinstance(decoded, AddTag | RemoveTag), decoded
    return decoded.version


def _read_id(message: TagMessage) -> str:
    return "" if isinstance(message, ByTag | GetIds | ToHolder) else message.id
