"""Checks the tags of tasks: what engines and executors say of them, and what is stored (S31)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from infinitic import topics
from infinitic.errors import DecodingError
from infinitic.messages import commands, events, task_tags
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.tags import read_key
from infinitic.messages.task_tags import AddTaskTag, GetTasks, RemoveTaskTag, TaskTagMessage, read_token
from infinitic.runtime.publisher import CAUSE
from infinitic.storage import StateKey, TagChange, TagKey, TagKind
from infinitic.topics import Topic
from infinitic.transport import Delivery, Message
from infinitic_testing.invariants.book import RunBook
from infinitic_testing.invariants.instances import ObservedInstance, WrittenStep

KIND = "service-tag"
"""The kind of the topics of tag engines of services."""


class TaskTagChecks:
    """Checks what is published to tag engines of services, acknowledged by them, and stored.

    Args:
        book: what is known of the run.
    """

    def __init__(self, book: RunBook) -> None:
        self._book = book
        self._written: dict[tuple[TagKey, str], int] = {}
        # The tasks that have lost their tags without a result: run and position, by instance.
        self._dropped: dict[StateKey, set[tuple[int, int]]] = {}

    # What is stored.

    def note_changes(self, changes: Sequence[TagChange]) -> None:
        """Note changes that the storage has taken."""
        for each in changes:
            if each.key.kind is TagKind.TASK:
                member = (each.key, each.id)
                self._written[member] = max(each.version, self._written.get(member, 0))

    def check_step(self, step: WrittenStep) -> None:
        """Note which tasks nobody waits for any more."""
        dropped = self._dropped.setdefault(step.key, set())
        run = step.head.run
        for event in step.events:
            if isinstance(event, events.TaskTimeout | events.TaskCanceled):
                dropped.add((run, event.position))
            elif isinstance(event, events.Reopened):
                dropped.difference_update((run, task.position) for task in event.tasks)

    def check_stored(self) -> None:
        """Check that open tasks have their tags, and that those that have ended have none.

        One that has failed may have them. So may one that a cancelled instance leaves behind.
        """
        for key, instance in self._book.instances.items():
            if instance.purged:
                continue
            for request in instance.history.requests:
                if isinstance(request, commands.ScheduleTask) and request.tags:
                    self._check_task(key, instance, request)

    def _check_task(self, key: StateKey, instance: ObservedInstance, request: commands.ScheduleTask) -> None:
        position, history = request.position, instance.history
        token = task_tags.make_token(key.name, key.id, history.run, position)
        head = instance.head
        # What a cancelled instance has asked for in its clean-up goes on.
        is_left = instance.is_over and position in history.open_tasks
        is_given_up = is_left and not (head.canceling and position >= head.cleanup)
        is_dropped = (history.run, position) in self._dropped.get(key, ())
        is_over = position in history.results or is_dropped or is_given_up
        is_open = not instance.is_over and position in history.open_tasks
        for tag in request.tags:
            found = token in self._list_members(TagKey(TagKind.TASK, request.service, tag))
            wrong = None
            if found and is_over:
                wrong = f"task {position} has ended, and still has the tag {tag!r}"
            elif not found and is_open:
                wrong = f"task {position} is open, and has not the tag {tag!r}"
            self._book.judge("task-tags-true", wrong, key)

    def _list_members(self, tag: TagKey) -> Iterator[str]:
        last = ""
        while page := self._book.database.tags.members(tag, until=None, after=last, limit=1000):
            yield from page
            last = page[-1]

    # What is sent.

    def publish(self, topic: Topic, message: Message) -> None:
        """Check a message to a tag engine that the broker has just accepted."""
        self._book.traffic.copies_of((topic.name, message.key, message.body)).published += 1
        decoded = _decode(message.body)
        tag = _read_tag(topic.name.partition(":")[2], message)
        if tag is not None and isinstance(decoded, AddTaskTag | RemoveTaskTag):
            place = read_token(decoded.token)
            key = StateKey(place.workflow_name, place.workflow_id)
            instance = self._book.instances.get(key)
            self._book.judge("cause-durable", self._find_wrong_cause(tag, decoded, instance), key)

    def _find_wrong_cause(
        self, tag: TagKey, message: AddTaskTag | RemoveTaskTag, instance: ObservedInstance | None
    ) -> str | None:
        """What is said of a task is in the storage, or an executor has reported its result."""
        place = read_token(message.token)
        if instance is None or place.run < instance.history.run:
            return None if instance is not None else f"it is about an instance that is not in the storage: {message}"
        history, position = instance.history, place.position
        request = history.requests[position] if position < len(history.requests) else None
        if not isinstance(request, commands.ScheduleTask) or tag.tag not in request.tags:
            return f"nobody has asked for such a task: {message}"
        sequence = message.version // 2
        if isinstance(message, AddTaskTag):
            was_sent = (position, sequence, 0) in instance.sent
            return None if was_sent else f"the task is in no outbox that was written: {message}"
        results = self._book.traffic.sent_to(instance.key).results
        is_open = position in history.open_tasks and not instance.is_over
        if position in results or not is_open or sequence < history.sequences.get(position, 0):
            return None
        return f"it is taken off {tag.tag!r}, and it is open: {message}"

    def check_dead_letter(self, origin: str, message: Message) -> None:
        """Check a dead letter that came from the topic `origin` of a tag engine."""
        traffic = self._book.traffic
        traffic.dead.add((topics.DEAD_LETTERS + origin, message.body))
        traffic.dead_ids.add((topics.DEAD_LETTERS + origin, message.id))
        decoded = _decode(message.body)
        wrong: str | None = None
        if not message.headers.get(CAUSE):
            wrong = f"it has no reason: {message}"
        elif decoded is not None and _read_tag(origin.partition(":")[2], message) is not None:
            # The clocks of workers may differ.
            is_old = self._book.clock.now() - decoded.made_at > self._book.database.deduplication_window / 2
            wrong = None if is_old else f"it can be handled: {decoded}"
        self._book.judge("dead-letter-deserved", wrong)

    def acknowledge(self, topic: Topic, deliveries: Sequence[Delivery], is_dead: Callable[[Delivery], bool]) -> None:
        """Check deliveries of which the broker has just been told that they are done.

        Args:
            topic: where they came from.
            deliveries: all of them.
            is_dead: tells whether one was published to the dead letters.
        """
        for delivery in deliveries:
            message = delivery.message
            copies = self._book.traffic.copies_of((topic.name, message.key, message.body))
            copies.settled.add(delivery.published_at)
            if is_dead(delivery) or copies.left > 0:
                continue
            decoded = _decode(message.body)
            tag = _read_tag(topic.name.partition(":")[2], message)
            wrong = None
            if decoded is None or tag is None:
                wrong = f"it cannot be decoded, and is no dead letter: {message}"
            elif isinstance(decoded, AddTaskTag | RemoveTaskTag):
                if self._written.get((tag, decoded.token), -1) < decoded.version:
                    wrong = f"it is not in the storage: {decoded}"
            elif isinstance(decoded, GetTasks) and not self._book.is_told(decoded.reply_to):
                wrong = f"nobody is answered: {decoded}"
            self._book.judge("ack-after-commit", wrong)


def _decode(body: bytes) -> TaskTagMessage | None:
    try:
        decoded: TaskTagMessage = task_tags.decode(body)
        if isinstance(decoded, AddTaskTag | RemoveTaskTag):
            read_token(decoded.token)
        elif decoded.after:
            read_token(decoded.after)
    except DecodingError:
        return None
    return decoded


def _read_tag(service: str, message: Message) -> TagKey | None:
    try:
        read = read_key(message.key)
    except UndecodableMessage:
        return None
    return None if read.unique else TagKey(TagKind.TASK, service, read.name)
