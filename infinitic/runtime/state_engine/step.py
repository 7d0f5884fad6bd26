"""One transition of one instance in the making: what was taken, what the code asked for, what is written and sent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

import msgspec

from infinitic import ids, topics
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines import effects, state
from infinitic.engines.effects import ActivateElsewhere, Answer, Bury, Effect, Handling, Postpone, Reply, SendTask
from infinitic.engines.state import WorkflowHead
from infinitic.engines.validate import InvalidInput
from infinitic.engines.workflow import (
    Transition,
    begin,
    begin_elsewhere,
    conclude,
    decide,
    note_failures,
    runnable,
    stall,
    take,
)
from infinitic.engines.workflow.render import Outgoing, needed, render, to_client
from infinitic.errors import InfiniticError, PayloadTooLargeError, PayloadUnavailable, WorkflowCodeError
from infinitic.limits import Limits
from infinitic.messages import client, engine as inputs, events
from infinitic.messages.commands import FailMethod
from infinitic.messages.decoding import UndecodableMessage
from infinitic.messages.events import AttemptFailed, Event, Stimulus
from infinitic.replay.instance import Instance
from infinitic.replay.recorder import TooMuchTogether
from infinitic.runtime.state_engine.cache import Held
from infinitic.runtime.state_engine.oversize import too_large, without_large_results
from infinitic.storage import Change, Segment
from infinitic.transport import Delivery, Message

_NOTHING = frozenset[int]()


class KnownInputs(NamedTuple):
    """Inputs that were taken before, and the confirmations that are still owed for them."""

    deliveries: list[Delivery]
    outgoing: list[Outgoing]


class Step(msgspec.Struct, eq=False):
    """A transition in the making. `change` is what to commit, None if nothing changes; `outgoing` what to send then.

    Made from an instance, the time, and the head of the instance. The other fields come to be.
    """

    held: Held
    _now: float
    head: WorkflowHead | None
    fold: list[Delivery] = []
    decided: bool = False
    early: float = 0.0
    """Seconds by which a message came before its time: so much is this clock behind that of the broker."""
    change: Change | None = None
    outgoing: list[Outgoing] = []
    bytes: int = 0
    """How large all that is committed and sent is together."""
    buried: tuple[tuple[Delivery, str], ...] = ()
    fault: InfiniticError | None = None
    _inputs: list[tuple[Delivery, inputs.Input]] = []
    _events: list[Event] = []
    _outbox: list[Effect] = []
    _replies: tuple[Reply, ...] = ()
    _marks: tuple[str, ...] = ()
    _segments: dict[int, Sequence[Event]] = {}
    _transition: Transition | None = None
    _taken: tuple[WorkflowHead | None, int, int] | None = None
    _may_have_ended: bool = False
    """False: surely no method has ended."""
    _may_look_back: bool = False
    """False: surely the outbox refers to no segment but that of this transition."""

    @property
    def runnable(self) -> bool:
        """True if the code has to be handed something."""
        return self.head is not None and runnable(self.head)

    def take(self, delivery: Delivery, window: float, largest: int) -> None:
        """Take one input, or put it among the dead letters if it is none. The step is as it was if this raises.

        `window` is the deduplication window in seconds; `largest` is how many bytes the storage can take.
        """
        try:
            message = inputs.decode(delivery.message.body)
            taken = take(self.head, self.held.key, message, self._now, window, delivery.message.headers)
        except (UndecodableMessage, InvalidInput) as error:
            self.fold.append(delivery)
            self.buried = (*self.buried, (delivery, str(error)))
            self._miss_decision(delivery.message.id, error)
            return
        self.fold.append(delivery)
        size = len(delivery.message.body)
        if size > largest:
            reason = too_large(message, taken, size, largest)
            if reason is not None:
                self.buried = (*self.buried, (delivery, reason))
                return
            taken = without_large_results(taken, size, largest, self._now)
        self._inputs.append((delivery, message))
        if taken.mark is not None:
            if taken.mark in self._marks:
                return
            self._marks = (*self._marks, taken.mark)
        if type(message) is inputs.Decision and taken.head is not self.head:
            self.decided = self._may_have_ended = True
            self._taken = (self.head, len(self._events), len(self._outbox))
            self.held.discard_live()
        self.head = taken.head
        self._events.extend(taken.events)
        if taken.outbox:
            self._outbox.extend(taken.outbox)
            self._may_look_back = True
        if taken.replies:
            self._replies += taken.replies
            self._may_look_back = True
        if taken.handling is not None:
            self._handle(delivery, taken.handling)

    def _handle(self, delivery: Delivery, handling: Handling) -> None:
        match handling:
            case Postpone():
                self.early = max(self.early, handling.early)
                self.outgoing.append(self._postponed(delivery.message, handling))
            case Bury(reason=reason):
                self.buried = (*self.buried, (delivery, reason))

    def _miss_decision(self, message_id: str, why: InfiniticError) -> None:
        """Stall if this message, which cannot be used, is the decision that the instance waits for.

        Its id says so. If that is forged, the decision still comes, and ends the stall.
        """
        head = self.head
        if head is None or not head.deciding or head.stalled is not None:
            return
        if ids.activation_of(message_id, head.id) == (head.activation, head.epoch):
            reason = f"The decision for activation {head.activation} went to the dead letters: {why}"
            self.head = stall(head, reason)

    def _postponed(self, message: Message, how: Postpone) -> Outgoing:
        headers = {**message.headers, how.header: how.value}
        copy = Message(message.id, message.key, message.body, headers, how.at)
        return Outgoing(topics.workflow_engine(self.held.key.name), copy)

    def activate(
        self, spec: WorkflowSpec, retention: float | None, limits: Limits, most: int | None = None
    ) -> int | None:
        """Run the code of the live instance with the stimuli that wait, `most` of them, until it has asked for enough.

        A number as result: no more stimuli fit into one activation. The instance is of no use any more, and nothing
        else has happened: do it again with so many of them.
        """
        head, held = self.head, self.held
        assert head is not None
        stimuli: list[Stimulus] = [*held.pending]
        for event in self._events:
            if event.__class__ is not AttemptFailed:
                stimuli.append(event)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]  # nothing else here
        live = held.live
        if live is None:
            live = held.live = Instance(spec, head.id, head.meta, head.run)
        activated = begin(head, self._now, each=len(stimuli) > 1)
        try:
            commands = live.activate(activated.at, stimuli[:most], limits=limits)
        except TooMuchTogether as full:
            held.discard_live()
            return full.fits
        except PayloadUnavailable:  # a key service is away: nothing has happened, it is tried again
            raise
        except InfiniticError as fault:
            self._stall(fault)
            return None
        held.pending = stimuli[live.handed :]
        taken = live.handed if held.pending else None
        happened, sends = self._events, self._outbox
        self._taken = (head, len(happened), len(sends))
        kept = spec.retention if retention is None else retention
        decided, outbox = decide(head, commands, spec.version, kept, activated, taken)
        self.head = note_failures(decided, live.failures) if live.failures or decided.failures else decided
        if decided.methods is not head.methods:
            self._may_have_ended = True
        happened.append(activated)
        if taken is not None:
            happened.append(events.Partial(taken))
        happened += commands
        sends += outbox
        return None

    def _stall(self, fault: InfiniticError) -> None:
        """The code cannot be run: what came is kept in history, and handed to it when somebody retries."""
        assert self.head is not None
        self.held.discard_live()
        self.head = stall(self.head, str(fault))
        self.fault = fault

    def stall(self, fault: InfiniticError) -> None:
        """As if nothing but the inputs had happened: the activation cannot be made."""
        self._undo()
        self._stall(fault)

    def _undo(self) -> None:
        """As if nothing but the inputs had happened."""
        self.held.discard_live()
        if self._taken is not None:
            self.head, of_events, of_outbox = self._taken
            del self._events[of_events:]
            del self._outbox[of_outbox:]
            self._taken = None

    def activate_elsewhere(self) -> None:
        """Have another worker run the code."""
        assert self.head is not None
        pending = self.head.pending
        activated = begin(self.head, self._now, each=True)
        self.head = begin_elsewhere(self.head, activated)
        self._events.append(activated)
        self._outbox.append(ActivateElsewhere(activated.number, pending))

    def missing(self) -> Set[int]:
        """The segments of history without which the outbox cannot be rendered."""
        if not self._may_look_back or self.head is None:
            return _NOTHING
        answers = [reply for reply in self._replies if isinstance(reply, Answer)]
        return needed([*self._outbox, *answers], self.head.sequence)

    def add(self, segments: Mapping[int, Sequence[Event]]) -> None:
        """The events of the segments of history that were asked for."""
        self._segments.update(segments)

    def finish(self, longest: int, max_value: int) -> None:
        """Close the transition: from here on `change` and `outgoing` are complete, and can be written and sent.

        What cannot undoes the activation, which is its cause: the instance stalls. What came need not fit beside what
        the code asks for then: it is written first, and handed over by the next transition. Raises
        `PayloadTooLargeError` if no activation is to blame, or if some of several inputs may be: nothing may be
        committed, and they are tried one by one.

        Args:
            longest: bytes that the body of a message may have.
            max_value: bytes of a head, of events, or of an outbox.
        """
        given = len(self.outgoing)  # copies of what came: as large as that
        while True:
            del self.outgoing[given:]
            size = self._finish(longest)
            for each in self.outgoing:
                size += len(each.message.body)
            self.bytes = size
            if size <= longest and size <= max_value:  # then nothing of it can be too large
                return
            problem = self._too_large(self.outgoing[given:], longest, max_value)
            if problem is None:
                return
            before = self.held.head
            waited = before is not None and before.pending != 0
            self.change = None
            if self._taken is None or (len(self.fold) > 1 and (self.decided or waited)):
                raise PayloadTooLargeError(problem)
            if self._taken[1]:
                self._undo()
            else:
                self.stall(PayloadTooLargeError(problem))

    def _too_large(self, outgoing: Sequence[Outgoing], longest: int, max_value: int) -> str | None:
        """What of this transition is too large for broker or storage, with sizes."""
        for each in outgoing:
            size = len(each.message.body)
            if size > longest:
                return f"A message of {size:,} bytes for {each.topic.name} is above the limit of {longest:,} bytes"
        if self.change is None:
            return None
        if len(self.change.head) > max_value:
            return _above("head", self.change.head, max_value)
        segment = self.change.segment
        if segment is not None:
            if len(segment.events) > max_value:
                return _above("segment", segment.events, max_value)
            if segment.outbox is not None and len(segment.outbox) > max_value:
                return _above("outbox", segment.outbox, max_value)
        return None

    def _finish(self, longest: int) -> int:
        """Close the transition. Returns how many bytes are committed."""
        held, head, now = self.held, self.head, self._now
        before = held.head
        if head is None:
            self.outgoing += [
                to_client(reply.reply_to, client.WorkflowUnknown(reply.reply_to.request))
                for reply in self._replies
                if isinstance(reply, effects.Refuse)
            ]
            return 0
        transition = self._transition = conclude(before, head, self._events, self._outbox, now)
        new, effects_left = transition.head, transition.outbox
        written = 0
        if new is not before:
            data = state.encode(new)
            written = len(data)
            segment = None
            if before is None or new.sequence > before.sequence:
                self._segments[new.sequence] = transition.events
                history = events.encode(transition.events)
                written += len(history)
                outbox = None
                if effects_left:
                    outbox = effects.encode(now, effects_left)
                    written += len(outbox)
                segment = Segment(new.sequence, history, outbox)
            expected = held.version
            version = int(now * 1_000_000)
            if expected is not None and version <= expected:
                version = expected + 1
            self.change = Change(
                held.key,
                expected,
                version,
                data,
                now,
                segment,
                self._marks,
                not effects_left,
                transition.entry,
                transition.expires_at,
            )
        if effects_left:
            self.outgoing += render(effects_left, new, self._segments, now, longest)
        if self._replies:
            self.outgoing += render(self._replies, new, self._segments, now, longest)
        return written

    @property
    def stalled(self) -> InfiniticError | None:
        """Why the instance stalls by this transition, None if it does not, or did already."""
        head, before = self.head, self.held.head
        if head is None or head.stalled is None or (before is not None and before.stalled is not None):
            return None
        return self.fault or WorkflowCodeError(head.stalled)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """The methods that this transition ended as failed: name, and what they raised, in one line."""
        if self._transition is None or not self._may_have_ended:
            return []
        failed = [event for event in self._transition.events if type(event) is FailMethod]
        names = {method.id: method.name for method in self._transition.head.methods}
        return [(names.get(each.method_id, ""), " ".join(str(each.failure.exception).split())) for each in failed]

    def written(self, version: int) -> None:
        """The change is durable."""
        held, change, transition = self.held, self.change, self._transition
        assert change is not None
        assert transition is not None
        held.head = transition.head
        held.version = version
        held.published = held.sent = change.published
        if held.live is not None and change.segment is not None:
            held.bytes += len(change.segment.events)

    @property
    def decoded(self) -> list[Delivery]:
        """The deliveries of this step that are inputs at all."""
        return [delivery for delivery, _ in self._inputs]

    def known(self, marks: Sequence[str]) -> KnownInputs:
        """The inputs of this step that these marks are of."""
        deliveries: list[Delivery] = []
        outgoing: list[Outgoing] = []
        for delivery, message in self._inputs:
            mark: str
            reply_to: client.ReplyTo | None = None
            match message:
                case inputs.CallMethod():
                    mark = message.method_id
                case inputs.Signal():
                    mark, reply_to = message.signal_id, message.reply_to
                case inputs.Cancel() | inputs.RetryWorkflowTask():
                    mark, reply_to = message.request_id, message.reply_to
                case _:
                    continue
            if mark in marks:
                deliveries.append(delivery)
                if reply_to is not None:
                    outgoing.append(to_client(reply_to, client.Applied(reply_to.request, self._stalled)))
        return KnownInputs(deliveries, outgoing)

    @property
    def _stalled(self) -> str | None:
        return None if self.head is None else self.head.stalled

    def refusals(self) -> list[Outgoing]:
        """What whoever asked by these inputs is told if there is no such instance any more."""
        asked = [getattr(message, "reply_to", None) for _, message in self._inputs]
        return [to_client(to, client.WorkflowUnknown(to.request)) for to in asked if isinstance(to, client.ReplyTo)]

    @property
    def sends_tasks(self) -> bool:
        """True if tasks are in the outbox."""
        return self._transition is not None and any(type(each) is SendTask for each in self._transition.outbox)


def _above(name: str, data: bytes, max_value: int) -> str:
    return f"A {name} of {len(data):,} bytes is above the limit of the storage of {max_value:,} bytes"


_START = b'{"t":"start"'


def start_first(fold: Sequence[Delivery], waiting: Iterable[Delivery]) -> Sequence[Delivery]:
    """What to take for a key without state: the first start that waits, if there is one, and then the rest in order."""
    first = next((each for each in waiting if each.message.body.startswith(_START)), None)
    if first is None or fold[0] is first:
        return fold
    return [first, *(each for each in fold if each is not first)]


def step(held: Held, fold: Sequence[Delivery], now: float, window: float, largest: int) -> Step:
    """Take a fold. Arguments as for `Step.take`.

    An input that cannot be taken ends it: those before it go alone; if it is the first, it raises.
    """
    taken = Step(held, now, held.head)
    for delivery in fold:
        try:
            taken.take(delivery, window, largest)
        except Exception:
            if not taken.fold:
                raise
            break
        if taken.decided:
            break
    return taken
