"""Checks what is published, delivered and acknowledged, and keeps what follows from it."""

from __future__ import annotations

from collections.abc import Sequence

from infinitic import ids, topics
from infinitic.engines.workflow.take import WAITS
from infinitic.messages import client, control, engine
from infinitic.messages.delegated import CompleteTask, FailTask, TaskDelegated
from infinitic.messages.executor import Activate, Ask, ProbeRequest
from infinitic.messages.service import ExecuteTask
from infinitic.runtime.publisher import CAUSE
from infinitic.storage import StateKey
from infinitic.topics import DEAD_LETTERS, STATE_ENGINE, Topic
from infinitic.transport import Delivery, Message
from infinitic_testing.invariants import ack_rules, cancel_rules, delivery_rules, publish_rules, query_rules
from infinitic_testing.invariants.book import RunBook
from infinitic_testing.invariants.instances import ObservedInstance, Sending
from infinitic_testing.invariants.listening import ListenerChecks
from infinitic_testing.invariants.publish_rules import find_deduplication_id
from infinitic_testing.invariants.refusal_rules import check_not_refused
from infinitic_testing.invariants.tags import KIND as TAGS, TagChecks
from infinitic_testing.invariants.task_tags import KIND as TASK_TAGS
from infinitic_testing.invariants.traffic import Copies, Decoded, SentInput, SentRequest

_ENDS = (client.MethodCompleted, client.MethodFailed, client.MethodCanceled, client.MethodTerminated)
_ANSWERS = (client.Queried, client.QueryFailed, client.AskAgain, client.UniqueStarted, client.Ids, client.Tasks)

_RESPONSES = (*_ENDS, client.WorkflowUnknown, client.Applied, client.Described, client.Rejected, *_ANSWERS)
_CONTROLS = (control.Ping, control.Alive, control.CancelTasks, control.AttemptsLost)
_NO_INPUTS = (ExecuteTask, Activate, Ask, *_RESPONSES, *_CONTROLS)


class MessageChecks:
    """Checks each message.

    Args:
        book: what is known of the run.
        tags: checks the messages to tag engines.
        listening: checks events.
    """

    def __init__(self, book: RunBook, tags: TagChecks, listening: ListenerChecks) -> None:
        self._book = book
        self._tags = tags
        self._listening = listening
        self._seen: set[tuple[str, str | None, bytes]] = set()

    # Publishing.

    def publish(self, who: str, topic: Topic, messages: Sequence[Message]) -> None:
        """Check messages that the broker has just accepted.

        Args:
            who: the process that published them.
            topic: where they went.
            messages: in this order.
        """
        traffic = self._book.traffic
        for message in messages:
            traffic.number += 1
            if topic.name.startswith(DEAD_LETTERS):
                origin = topic.name[len(DEAD_LETTERS) :]
                if origin.startswith(f"{TAGS}:"):
                    self._tags.check_dead_letter(origin, message)
                elif origin.startswith(f"{TASK_TAGS}:"):
                    self._tags.tasks.check_dead_letter(origin, message)
                else:
                    self._check_dead_letter(topic, message)
                continue
            kind, _, name = topic.name.partition(":")
            if kind == TAGS:
                self._tags.publish(topic, message)
                continue
            if kind == TASK_TAGS:
                self._tags.tasks.publish(topic, message)
                continue
            if topics.is_for_listeners(topic):
                self._listening.publish(who, topic, message)
                continue
            decoded = traffic.decode(topic, message.body)
            if isinstance(decoded, _RESPONSES):
                self._check_response(name, decoded)
                continue
            if isinstance(decoded, _CONTROLS):
                if isinstance(decoded, control.CancelTasks):
                    self._check_cancel(decoded)
                continue
            key = find_key(topic, message, decoded)
            if topic.subscription is not None:
                self._find_copies(kind, key, message, decoded).published += 1
            if decoded is None:
                self._note_garbled(kind, name, message)
            else:
                self._note_sending(key, decoded)
                # What was published before is checked. Repeats of it may come at any time.
                at = (kind, message.key, message.body)
                if at not in self._seen:
                    self._seen.add(at)
                    self._note(who, key, message, decoded)
                    self._check_cause(key, decoded)
                elif WAITS in message.headers and (found := find_deduplication_id(decoded)) is not None:
                    sent = traffic.sent_to(key).inputs.get(found)
                    if sent is not None:
                        sent.waited = True

    def _find_copies(self, kind: str, key: StateKey, message: Message, decoded: Decoded | None) -> Copies:
        """The copies of a message, by what it means if it has one meaning only."""
        traffic = self._book.traffic
        match decoded:
            case ExecuteTask():
                copies = traffic.copies_of((key.name, *decoded.attempt))
                if not copies.published:
                    traffic.attempts.setdefault((key, decoded.position), []).append(copies)
                return copies
            case Activate(probe=ProbeRequest(request_id=request_id)):
                return traffic.copies_of((key, "probe", request_id))
            case Activate():
                return traffic.copies_of((key, decoded.activation, decoded.epoch))
            case Ask():
                # It may be passed on to the topic of a version.
                return traffic.copies_of((key, message.body))
            case engine.Wake():
                wakes = traffic.sent_to(key).wakes
                found = wakes.get(decoded.due)
                if found is None:
                    found = wakes[decoded.due] = Copies()
                return found
            case _:
                return traffic.copies_of((kind, key, message.body))

    def _note_garbled(self, kind: str, name: str, message: Message) -> None:
        """A message came that cannot be decoded. Its id may say what it is about."""
        attempt = ids.read_attempt(message.id)
        settled = ids.read_settlement(message.id, message.key or "")
        if kind == "workflow-engine" and settled is not None:
            self._book.traffic.sent_to(StateKey(name, message.key or "")).garbled.add(settled[1])
        if kind == "workflow-engine" and attempt is not None:
            self._book.traffic.sent_to(StateKey(name, attempt[0])).garbled.add(attempt[1])
        if kind == "service-executor" and (task := ids.read_task_message(message.id)) is not None:
            self._book.traffic.sent_to(StateKey(task[0], task[1][0])).garbled.add(task[1][1])

    def _note(self, who: str, key: StateKey, message: Message, decoded: Decoded) -> None:
        traffic = self._book.traffic
        sent = traffic.sent_to(key)
        deduplication_id = find_deduplication_id(decoded)
        if deduplication_id is not None and not isinstance(decoded, _NO_INPUTS):
            sent.inputs.setdefault(deduplication_id, SentInput(decoded, who, traffic.number))
        match decoded:
            case engine.Start():
                sent.starts[message.body] = decoded
                sent.started = traffic.number if sent.started is None else sent.started
            case engine.TaskCompleted():
                self._listening.check_report(who, key, decoded)
                sent.results.setdefault(decoded.position, []).append((bytes(decoded.value), decoded.execution))
                sent.reported.add((decoded.position, decoded.run, 0, None))
            case engine.TaskFailed():
                which = (decoded.retry_sequence, decoded.retry_index)
                sent.failures.setdefault(decoded.position, set()).add(which)
                sent.reported.add((decoded.position, decoded.run, *which))
            case engine.AttemptFailed():
                self._listening.check_report(who, key, decoded)
                attempt = (decoded.position, decoded.retry_sequence, decoded.retry_index)
                sent.delays.setdefault(attempt, []).append(decoded.delay)
                sent.reported.add((decoded.position, decoded.run, decoded.retry_sequence, decoded.retry_index))
            case TaskDelegated():
                which = (decoded.retry_sequence, decoded.retry_index)
                sent.delegated.add((decoded.position, *which))
                sent.reported.add((decoded.position, decoded.run, *which))
            case CompleteTask():
                sent.results.setdefault(decoded.position, []).append((bytes(decoded.value), None))
            case FailTask():
                sent.failures.setdefault(decoded.position, set()).add((decoded.retry_sequence, None))
            case engine.Probed():
                sent.probed.add(decoded.request_id)
            case engine.Decision():
                sent.decided.add((decoded.activation, decoded.epoch))
            case engine.RemoteSettled():
                sent.settlements.setdefault(decoded.position, []).append(decoded)
            case engine.Wait(stop=True):
                sent.leavers.add(decoded.reply_to.client)
            case Ask():
                sent.asked.add(decoded.reply_to)
            case engine.Asked():
                sent.told.add(decoded.reply_to)
                return
            case _:
                pass
        reply_to: client.ReplyTo | None = getattr(decoded, "reply_to", None)
        if reply_to is not None and not isinstance(decoded, _NO_INPUTS):
            request = (reply_to.client, reply_to.request)
            topic = self._book.broker.find_record(topics.client(reply_to.client))
            instance = self._book.instances.get(key)
            sequence = 0 if instance is None else instance.history.sequence
            traffic.requests.setdefault(request, SentRequest(key, decoded, self._book.clock.now(), topic, sequence))

    def _note_sending(self, key: StateKey, decoded: Decoded) -> None:
        """Note that a message of an outbox is published."""
        asked = find_remote_id(key, decoded)
        requester = None if asked is None else self._book.requesters.get(asked)
        if requester is not None:
            self._book.instances[requester[0]].unpublished.pop(("remote", asked), None)
        instance = self._book.instances.get(key)
        if instance is None or not instance.unpublished:
            return
        sending: Sending
        match decoded:
            case ExecuteTask():
                sending = ("task", decoded.position, decoded.retry_sequence, decoded.retry_index)
            case engine.Wake():
                sending = ("wake", decoded.due)
            case Activate(probe=ProbeRequest(request_id=request_id)):
                sending = ("probe", request_id)
            case Activate():
                sending = ("activation", decoded.activation, decoded.epoch)
            case _:
                return
        instance.unpublished.pop(sending, None)

    def _check_cause(self, key: StateKey, decoded: Decoded) -> None:
        book = self._book
        instance = book.instances.get(key)
        match decoded:
            case ExecuteTask():
                wrong = publish_rules.check_task_was_asked(decoded, instance)
            case Activate():
                wrong = publish_rules.check_activation_was_opened(decoded, instance)
            case engine.Decision():
                wrong = publish_rules.check_decision_was_asked(decoded, instance)
            case engine.Wake():
                wrong = publish_rules.check_wake_was_armed(decoded, instance)
            case engine.Start() | engine.CallMethod() if decoded.reply_to is not None and decoded.reply_to.workflow:
                parent = book.instances.get(StateKey(decoded.reply_to.workflow, decoded.reply_to.client))
                wrong = publish_rules.check_request_was_asked(decoded, key, parent)
            case engine.ChildReopened():
                wrong = publish_rules.check_reopening_was_told(decoded, key, book.instances.values())
                for each in book.instances.values():
                    each.unpublished.pop(("reopened", decoded.request_id), None)
            case engine.RemoteSettled():
                response = publish_rules.read_settlement(decoded)
                self._check_response(key.id, response)
                return
            case engine.TaskCompleted() | engine.TaskFailed() | engine.AttemptFailed() | TaskDelegated():
                book.judge("report-asked", publish_rules.check_report_was_asked(decoded, instance), key)
                return
            case _:
                return
        book.judge("cause-durable", wrong, key)

    def _check_cancel(self, message: control.CancelTasks) -> None:
        """Check what executors are told to stop. The message does not name the workflow."""
        book = self._book
        key = next((each for each in book.instances if each.id == message.workflow_id), None)
        instance = None if key is None else book.instances[key]
        book.judge("cause-durable", cancel_rules.check_cancel_was_asked(message, instance), key)
        if key is not None:
            told = {(position, message.run): sequence for position, sequence in message.tasks}
            cancelled = book.traffic.sent_to(key).cancelled
            for task, sequence in told.items():
                # An older one may come late.
                cancelled[task] = max(sequence, cancelled.get(task, 0))

    def _check_response(self, name: str, response: client.Response) -> None:
        book = self._book
        request = (name, response.request)
        found = book.traffic.requests.get(request)
        key, asked, since = (None, None, 0.0) if found is None else (found.key, found.asked, found.at)
        instance = None if key is None else book.instances.get(key)
        if instance is not None:
            instance.unpublished.pop(("answer", *request), None)
        answers = book.traffic.answers.setdefault(request, [])
        if response in answers:
            return
        if isinstance(response, _ENDS):
            book.judge("one-answer", publish_rules.check_same_answer(answers, response, instance), key)
            book.judge("cause-durable", publish_rules.check_end_is_durable(response, asked, instance), key)
        elif isinstance(response, client.Applied | client.Rejected):
            book.judge("cause-durable", publish_rules.check_applied_is_durable(response, asked, instance), key)
            book.judge("one-answer", check_not_refused(response, asked, book.traffic, key), key)
        elif isinstance(response, client.Queried):
            query_rules.check_answer(book, response, found)
        elif isinstance(response, client.WorkflowUnknown):
            book.judge("told-unknown", publish_rules.check_unknown(response, asked, instance, since), key)
            refused = None if asked is None else find_deduplication_id(asked)
            if key is not None and instance is not None and refused is not None and not response.reason:
                book.traffic.sent_to(key).refused.add(refused)
        answers.append(response)
        if key is not None and isinstance(response, _ENDS):
            answered = book.traffic.sent_to(key).answered
            answered[name] = max(ids.read_request_number(response.request), answered.get(name, 0))

    def _check_dead_letter(self, topic: Topic, message: Message) -> None:
        book, traffic = self._book, self._book.traffic
        traffic.dead.add((topic.name, message.body))
        traffic.dead_ids.add((topic.name, message.id))
        origin = topic.name[len(DEAD_LETTERS) :]
        decoded = traffic.decode(Topic(origin, topic.ordering, None), message.body)
        key = find_key(Topic(origin, topic.ordering, None), message, decoded)
        wrong: str | None = f"it has no reason: {message}"
        if message.headers.get(CAUSE):
            made_at: float = getattr(decoded, "made_at", 0.0)
            wrong = publish_rules.check_dead_letter(
                decoded,
                len(message.body),
                book.instances.get(key),
                book.clock.now() - made_at,
                book.database.deduplication_window,
                book.database.max_value,
            )
        book.judge("dead-letter-deserved", wrong, key)

    # Delivering.

    def deliver(self, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        """Check deliveries that the broker has just handed out.

        Args:
            topic: where they came from.
            deliveries: all of them.
        """
        for delivery in deliveries:
            message = delivery.message
            if message.deliver_at is None:
                continue
            key = find_key(topic, message, self._book.traffic.decode(topic, message.body))
            wrong = delivery_rules.check_delay(message.deliver_at, self._book.clock.now(), self._book.broker.lateness)
            self._book.judge("delay-kept", wrong, key)

    # Acknowledging.

    def acknowledge(self, topic: Topic, deliveries: Sequence[Delivery]) -> None:
        """Check deliveries of which the broker has just been told that they are done.

        Args:
            topic: where they came from.
            deliveries: all of them.
        """
        kind = topic.name.partition(":")[0]
        if topic.subscription is None or topic.name.startswith(DEAD_LETTERS):
            return
        traffic = self._book.traffic
        if kind == TAGS:
            self._tags.acknowledge(topic, deliveries, lambda delivery: traffic.is_dead(topic, delivery))
            return
        if kind == TASK_TAGS:
            self._tags.tasks.acknowledge(topic, deliveries, lambda delivery: traffic.is_dead(topic, delivery))
            return
        found: list[tuple[Delivery, Decoded | None, StateKey, Copies]] = []
        for delivery in deliveries:
            message = delivery.message
            decoded = traffic.decode(topic, message.body)
            key = find_key(topic, message, decoded)
            copies = self._find_copies(kind, key, message, decoded)
            copies.settled.add(delivery.published_at)
            found.append((delivery, decoded, key, copies))
        for delivery, decoded, key, copies in found:
            message = delivery.message
            if traffic.is_dead(topic, delivery):
                if decoded is None:
                    self._check_told(topic, message)
                continue
            if decoded is None:
                # A worker that stops hands on what it has not looked at: a copy is left.
                bad = None if copies.left > 0 else f"it cannot be decoded, and is no dead letter: {message}"
                self._book.judge("ack-after-commit", bad, key)
            elif topic.subscription == STATE_ENGINE:
                self._check_input(key, message, decoded, copies)
            elif isinstance(decoded, ExecuteTask):
                attempt = (decoded.position, decoded.run, decoded.retry_sequence, decoded.retry_index)
                wrong_task = ack_rules.check_attempt_kept(attempt, copies, traffic.sent_to(key))
                self._book.judge("attempt-kept", wrong_task, key)
            elif isinstance(decoded, Activate):
                instance = self._book.instances.get(key)
                kept = ack_rules.check_activation_kept(decoded, instance, copies, traffic.sent_to(key))
                self._book.judge("activation-kept", kept, key)
            elif isinstance(decoded, Ask):
                lost = query_rules.check_question_kept(decoded, copies, traffic.sent_to(key))
                self._book.judge("question-kept", lost, key)

    def _check_told(self, topic: Topic, message: Message) -> None:
        """Check that no instance waits for a dead letter. Its id says what it was."""
        book = self._book
        if topic.subscription == STATE_ENGINE:
            key = StateKey(topic.name.partition(":")[2], message.key or "")
            instance = book.instances.get(key)
            if instance is not None and not instance.is_over and not instance.head.parked:
                wrong = ack_rules.find_untold(message, instance, book.traffic.sent_to(key))
                book.judge("ack-after-commit", wrong, key)
        elif (named := ids.read_task_message(message.id)) is not None:
            name, (workflow_id, position, run, sequence, index) = named
            key = StateKey(name, workflow_id)
            attempt = (position, run, sequence, index)
            told = attempt in book.traffic.sent_to(key).reported
            wrong = None if told else f"an attempt became a dead letter, and its workflow is not told: {message.id}"
            book.judge("attempt-kept", wrong, key)

    def _check_input(self, key: StateKey, message: Message, decoded: Decoded, copies: Copies) -> None:
        if isinstance(decoded, _NO_INPUTS):
            return
        book = self._book
        instance: ObservedInstance | None = book.instances.get(key)
        sent = book.traffic.sent_to(key)
        if isinstance(decoded, engine.Wake):
            book.judge("wake-kept", ack_rules.check_wake_kept(decoded, instance, copies, sent), key)
        else:
            wrong = ack_rules.check_input_taken(decoded, message, instance, copies, sent, book.is_told)
            book.judge("ack-after-commit", wrong, key)
        # While a copy is left, as of a signal before its start, nothing depends on this delivery.
        if instance is None or not instance.unpublished or copies.left > 0:
            if instance is not None:
                book.judge("ack-after-publish", None, key)
            return
        book.drop_gone_clients(instance)
        book.judge("ack-after-publish", ack_rules.check_outbox_published(decoded, instance), key)


def find_remote_id(key: StateKey, decoded: Decoded) -> str | None:
    """The id that another instance may have given to what it asks for; None if it is no request."""
    return key.id if isinstance(decoded, engine.Start) else find_deduplication_id(decoded)


def find_key(topic: Topic, message: Message, decoded: Decoded | None) -> StateKey:
    """Name the instance that a message is about."""
    if isinstance(decoded, ExecuteTask):
        return StateKey(decoded.workflow_name, decoded.workflow_id)
    kind, _, name = topic.name.partition(":")
    # The names of these topics are "version:workflow".
    workflow = name.partition(":")[2] if kind == "workflow-version" else name
    return StateKey(workflow, message.key or "")
