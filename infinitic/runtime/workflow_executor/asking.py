"""Queries in split mode: an engine passes a question on, and gets the answer back.

The live object answers if it has run the activation that the engine names. If the engine may still
take another decision for that activation, the answer carries the digest of this one, and comes to
the engine behind it. Without such an object a replay of the history answers. If the history does
not hold that activation yet, the question comes again a moment later.

What a crash here does: nothing. The question comes again.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw
from msgspec.structs import replace

from infinitic import topics
from infinitic.clock import Clock
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import ExceptionDetail, NonDeterminismError, PayloadTooLargeError, WorkflowCodeError
from infinitic.failures import describe, fit, qualified_name
from infinitic.messages import engine
from infinitic.messages.engine import NO_VALUE
from infinitic.messages.executor import Ask
from infinitic.replay.instance import Instance
from infinitic.replay.queries import LONGEST_FAILURE, QueryError
from infinitic.runtime.history import decode_head, replay_history
from infinitic.runtime.versions import find_spec
from infinitic.runtime.workflow_executor.live_instances import LiveInstances
from infinitic.storage import StateKey, StateStorage
from infinitic.topics import Topic
from infinitic.transport import Message, Outgoing

LATER_SECONDS = 0.1
"""After so long a question comes again whose activation is not in the history yet.

The second time it is twice as long, and so on.
"""

LONGEST_SECONDS = 2.0
"""It is no longer than this."""

MOST_WAITS = 30
"""How often a question comes again. That is about 40 seconds.

Then the engine is told that there is no answer, and the client asks again. A question that is
forged, or was left over by something else, does not stay for ever.
"""

LATER = "infinitic-later"
"""The header that counts how often a question has come again."""


class Asking:
    """Answers the questions that engines pass on.

    Args:
        name: the workflow.
        topic: where the questions come from.
        specs: the versions whose code is here.
        live: the live instances of the executor.
        states: where histories are read.
        clock: the time of day.
    """

    def __init__(
        self,
        name: str,
        topic: Topic,
        specs: Mapping[int, WorkflowSpec],
        live: LiveInstances,
        states: StateStorage,
        clock: Clock,
    ) -> None:
        self._name = name
        self._topic = topic
        self._specs = specs
        self._live = live
        self._states = states
        self._clock = clock

    async def answer(self, message: Message, ask: Ask, longest: int) -> Outgoing:
        """Answer a question, or have it come again.

        Args:
            message: the message with the question. Its key is the id of the instance.
            ask: the question.
            longest: how many bytes the body of the answer may have.

        Raises:
            MissingVersion: the code is not here.
            DamagedState: the history is damaged.
            Exception: what may pass. The question is to be tried again.
        """
        workflow_id = message.key or ""
        live = self._live.take(workflow_id)
        if live is not None:
            is_broken = False
            try:
                run, activations = live.instance.run, live.instance.activations
                is_same = (run, activations, live.epoch) == (ask.run, ask.activation, ask.epoch)
                if is_same and not live.is_partial and ask.digest in (None, live.digest):
                    digest = live.digest if ask.digest is None else None
                    is_broken = True
                    asked, is_broken = self._ask(live.instance, ask, digest)
                    return self._make_answer(workflow_id, asked, longest)
            finally:
                if is_broken:
                    live.instance.close()
                else:
                    self._live.keep(workflow_id, live)
        return await self._answer_from_history(workflow_id, message, ask, longest)

    def refuse(self, workflow_id: str, ask: Ask, reason: str, longest: int) -> Outgoing:
        """Tell that a question cannot be answered, for this reason."""
        failure = ExceptionDetail(qualified_name(WorkflowCodeError), reason)
        return self._make_answer(workflow_id, self._make_asked(ask, failure=failure), longest)

    async def _answer_from_history(self, workflow_id: str, message: Message, ask: Ask, longest: int) -> Outgoing:
        key = StateKey(self._name, workflow_id)
        stored = (await self._states.load([key])).get(key)
        head = None if stored is None else decode_head(key, stored)
        if head is None or head.stalled is not None:
            # The engine knows what to say.
            return self._make_answer(workflow_id, self._make_asked(ask), longest)
        decided = head.activation - 1 if head.deciding else head.activation
        unseen = head.deciding or head.pending
        # The code of a new run has an object once it has run for the first time.
        least = ask.activation if head.run == ask.run else 1
        if decided < least or 0 < unseen <= ask.sequence:
            return self._ask_later(message) or self._make_answer(workflow_id, self._make_asked(ask), longest)
        try:
            spec = find_spec(self._name, self._specs, head.version)
            instance = (await replay_history(key, head, spec, self._states))[0]
        except (NonDeterminismError, WorkflowCodeError) as fault:
            return self._make_answer(workflow_id, self._make_asked(ask, failure=describe(fault)), longest)
        try:
            asked, _ = self._ask(instance, replace(ask, run=head.run, activation=decided), None)
        finally:
            instance.close()
        return self._make_answer(workflow_id, asked, longest)

    def _ask_later(self, message: Message) -> Outgoing | None:
        """Have a question come again; None if it has come too often."""
        known = message.headers.get(LATER, "0")
        waited = int(known) if known.isdecimal() and len(known) < 3 else 0
        if waited >= MOST_WAITS:
            return None
        later = self._clock.now() + min(LATER_SECONDS * (waited + 1), LONGEST_SECONDS)
        headers = {**message.headers, LATER: str(waited + 1)}
        return Outgoing(self._topic, Message(message.id, message.key, message.body, headers, later))

    def _ask(self, instance: Instance, ask: Ask, digest: str | None) -> tuple[engine.Asked, bool]:
        """Returns the answer of a live instance, and whether that must not be used any more."""
        try:
            value = instance.query(ask.query, ask.arguments)
        except QueryError as error:
            return self._make_asked(ask, digest, failure=error.failure), error.is_broken
        return self._make_asked(ask, digest, Raw(value)), False

    def _make_asked(
        self,
        ask: Ask,
        digest: str | None = None,
        value: Raw = NO_VALUE,
        failure: ExceptionDetail | None = None,
    ) -> engine.Asked:
        return engine.Asked(
            made_at=self._clock.now(),
            activation=ask.activation,
            run=ask.run,
            epoch=ask.epoch,
            reply_to=ask.reply_to,
            digest=digest,
            value=value,
            failure=None if failure is None else fit(failure, LONGEST_FAILURE),
        )

    def _make_answer(self, workflow_id: str, asked: engine.Asked, longest: int) -> Outgoing:
        body = engine.encode(asked)
        if len(body) > longest and asked.failure is None:
            reason = f"The answer of {len(bytes(asked.value)):,} bytes does not fit into a message of {longest:,} bytes"
            failure = ExceptionDetail(qualified_name(PayloadTooLargeError), reason)
            body = engine.encode(replace(asked, value=NO_VALUE, failure=failure))
        return Outgoing(topics.workflow_engine(self._name), Message(workflow_id, workflow_id, body))
