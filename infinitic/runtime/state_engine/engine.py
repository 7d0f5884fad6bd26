"""The workflow state engine of one workflow: receive, load, step, commit, publish, acknowledge.

For each key and fold: take the inputs, hand their stimuli to the live instance (or, in split mode, to a worker that has
the code), commit head, history and outbox in one compare-and-set, publish the outbox, acknowledge the inputs. Only then
comes the next transition of that key.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import msgspec

from infinitic import topics
from infinitic.clock import Clock
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines import state
from infinitic.engines.workflow.render import Outgoing
from infinitic.errors import (
    InfiniticError,
    NonDeterminismError,
    StorageError,
    TransportError,
    WorkflowCodeError,
)
from infinitic.limits import Limits, longest_of
from infinitic.messages.decoding import UndecodableMessage, check_key
from infinitic.replay.divergence import stalls
from infinitic.runtime.blame import ILL, is_counted
from infinitic.runtime.history import head_of, read_segments
from infinitic.runtime.lanes import BATCH_BYTES, PREFETCH, Lane, Lanes
from infinitic.runtime.memory_bounds import MemoryBounds
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.state_engine.cache import Cache, Held
from infinitic.runtime.state_engine.committer import Committer
from infinitic.runtime.state_engine.flagging import flag_change
from infinitic.runtime.state_engine.loading import load_states
from infinitic.runtime.state_engine.questions import answer_questions
from infinitic.runtime.state_engine.repairs import Repairs
from infinitic.runtime.state_engine.skew import Skew
from infinitic.runtime.state_engine.step import Step, start_first, step
from infinitic.runtime.state_engine.takeover import outbox_of, revive
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.versions import MissingVersion, Told, spec_for
from infinitic.storage import (
    Change,
    DamagedState,
    Duplicate,
    Flag,
    Lost,
    Refused,
    StateKey,
    Storage,
    Stored,
    Written,
)
from infinitic.transport import Delivery, TransportClosed, TransportUnavailable

_logger = logging.getLogger("infinitic.engine")

REMEMBERED = 10_000
"""Ids of parked instances that are kept in memory."""


class StateEngine:
    """Runs the instances of one workflow.

    Args:
        name: the workflow.
        specs: its versions whose code this worker runs itself (fused); empty: the code runs elsewhere (split).
        retention: seconds to keep closed instances; None: what the class says.
        told: the missing versions of which this worker has told.
        on_stall: called with the id of an instance that stalls, and the reason.
    """

    def __init__(
        self,
        name: str,
        specs: Mapping[int, WorkflowSpec],
        publisher: Publisher,
        storage: Storage,
        committer: Committer,
        clock: Clock,
        *,
        concurrency: int,
        bounds: MemoryBounds,
        retention: float | None,
        told: Told,
        on_stall: Callable[[str, InfiniticError], None],
    ) -> None:
        self.name = name
        self.topic = topics.workflow_engine(name)
        self.cache = Cache(bounds.cache_size, bounds.cache_bytes)
        self._specs = specs
        self._publisher = publisher
        self._storage = storage
        self._states = storage.states
        self._deduplication_window = storage.capabilities.deduplication_window
        self._committer = committer
        self._clock = clock
        self._concurrency = concurrency
        self._buffer_bytes = bounds.buffer_bytes
        self._retention = retention
        self._on_stall = on_stall
        self._parked: dict[str, None] = {}
        self._told = told
        self._skew = Skew(name)
        self._subscription = Subscription(publisher, self.topic, PREFETCH)
        self._repairs = Repairs(name, self._states, committer, publisher, self._subscription, clock, self._stalled)
        self._lanes: Lanes | None = None

    @property
    def joined(self) -> bool:
        """True while it receives."""
        return self._subscription.joined

    async def start(self) -> None:
        """Join the subscription."""
        await self._subscription.join()
        self._lanes = Lanes(self._subscription, self._handle, self._clock, self._concurrency, self._buffer_bytes)

    async def run(self) -> None:
        """Work until cancelled."""
        assert self._lanes is not None
        await self._lanes.run()

    async def drain(self) -> None:
        """Finish what is in work, and leave the subscription."""
        if self._lanes is not None:
            await self._lanes.drain()
        for held in self.cache.clear():
            self._let_go(held)
        try:
            await self._committer.flush()
        except StorageError as error:
            _logger.warning("Draining: %s; whoever takes over will publish once more", error)
        await self.close()

    async def close(self) -> None:
        """Give back what is in hand."""
        for held in self.cache.clear():
            held.discard_live()
        self._committer.close()
        await self._subscription.close()

    # One batch of lanes.

    async def _handle(self, lanes: Sequence[Lane]) -> None:
        try:
            await self._transition(lanes)
        except Exception as error:  # noqa: BLE001 (whatever it is, the lanes are tried again, and it is logged there)
            if len(lanes) == 1 or isinstance(error, ILL):
                self._failed(lanes, error)
                return
            for lane in lanes:  # one of them may be to blame
                if lane.waiting and not lane.failed:
                    await self._handle([lane])

    def _failed(self, lanes: Sequence[Lane], error: Exception) -> None:
        """What the lanes held in memory may be wrong now: it is loaded again. No lane is blamed for the storage."""
        counted = is_counted(error) and not isinstance(error, StorageError)
        for lane in lanes:
            held = self.cache.take(lane.key)
            if held is not None:
                self._let_go(held)
            if not lane.failed:
                lane.fail(error, self._clock.now(), counted=counted)

    async def _transition(self, lanes: Sequence[Lane]) -> None:
        held: dict[str, Held] = {}
        try:
            await self._hold(lanes, held)
            waiting = deque([lane for lane in lanes if lane.key in held])
            while waiting:
                await self._commit(await self._confirmed(await self._steps(waiting, held)))
                for evicted in self.cache.evict():
                    self._let_go(evicted)
        except BaseException as error:
            for each in held.values():
                self.cache.take(each.key.id)
                each.discard_live()
                if isinstance(error, Exception):
                    self._let_go(each)
            raise

    async def _steps(self, waiting: deque[Lane], held: Mapping[str, Held]) -> list[tuple[Lane, Step]]:
        """The transitions of the first lanes that wait, until they have enough bytes to be committed together."""
        steps: list[tuple[Lane, Step]] = []
        size = 0
        now = self._clock.now()
        max_payload, max_value = self._sizes
        limits = Limits.stored(max_payload, max_value)
        longest, largest = longest_of(max_payload), longest_of(max_value)
        while waiting and size < BATCH_BYTES:
            lane = waiting.popleft()
            each = held[lane.key]
            head, before = each.head, each.bytes
            try:
                if (
                    lane.key in self._parked
                    or (lane.tries and lane.exhausted(now))
                    or (head is not None and head.parked)
                ):
                    each.discard_live()
                    await self._park(lane, each)
                    continue
                fold: Sequence[Delivery] = lane.fold()
                if head is None and len(lane.waiting) > 1:
                    fold = start_first(fold, islice(lane.waiting, max(each.vouched, len(fold))))
                    fold = fold[:1] if lane.tries else fold
                taken = step(each, fold, now, self._deduplication_window, largest)
                if taken.early:
                    self._skew.tell(taken.early)
                if taken.runnable:
                    spec = self._find_spec(taken)
                    if spec is None:
                        taken.activate_elsewhere()
                    elif each.live is None:
                        await self._revive_and_activate(taken, spec, limits)
                    else:  # the usual case
                        most = taken.activate(spec, self._retention, limits)
                        if most is not None:
                            await self._revive_and_activate(taken, spec, limits, most)
                missing = taken.missing()
                if missing:
                    taken.add(await read_segments(each.key, missing, self._states))
                taken.finish(longest, max_value)
                steps.append((lane, taken))
                size += taken.bytes + each.bytes - before
            except DamagedState as damage:
                each.discard_live()
                await self._repairs.wait(lane, each, damage)
                self._let_go(each)
            except Exception as error:  # noqa: BLE001 (one bad key leaves the others alone)
                self._let_go(each)
                lane.fail(error, now, counted=is_counted(error))
        return steps

    def _find_spec(self, taken: Step) -> WorkflowSpec | None:
        """The code that the stimuli of this step are handed to; None if that is elsewhere."""
        if not self._specs or taken.decided:
            return None
        try:
            return spec_for(self.name, self._specs, taken.head.version if taken.head else None)
        except MissingVersion as missing:
            self._told.tell(missing)
            return None

    async def _revive_and_activate(
        self, taken: Step, spec: WorkflowSpec, limits: Limits, most: int | None = None
    ) -> None:
        """Hand the stimuli to the code, `most` of them (None: all). It is replayed first if it has a history."""
        held = taken.held
        while True:
            if held.live is None and held.head is not None and held.head.sequence:
                try:
                    await revive(held, spec, self._states)
                except (NonDeterminismError, WorkflowCodeError, DamagedState) as fault:
                    taken.stall(fault)
                    return
            most = taken.activate(spec, self._retention, limits, most)
            if most is None:
                return

    @property
    def _sizes(self) -> tuple[int, int]:
        """Bytes that a message and a stored value may have."""
        return self._publisher.transport.capabilities.max_payload, self._storage.capabilities.max_value

    def _stalled(self, workflow_id: str, fault: InfiniticError) -> None:
        _logger.error("%s", stalls(self.name, workflow_id, fault))
        self._on_stall(workflow_id, fault)

    async def _confirmed(self, steps: list[tuple[Lane, Step]]) -> list[tuple[Lane, Step]]:
        """The steps without those whose inputs change nothing only because the head in memory is an old one.

        What changes something is guarded by the compare-and-set; what does not is lost once it is acknowledged.
        """
        doubtful = [taken.held for _, taken in steps if taken.change is None and len(taken.fold) > taken.held.vouched]
        if not doubtful:
            return steps
        stored = await self._states.load([held.key for held in doubtful])
        old: set[str] = set()
        for held in doubtful:
            found = stored.get(held.key)
            if (None if found is None else found.version) != held.version:
                held.discard_live()
                old.add(held.key.id)
        return [(lane, taken) for lane, taken in steps if lane.key not in old]

    async def _hold(self, lanes: Sequence[Lane], found: dict[str, Held]) -> None:
        """Find the instances of these lanes, in memory or storage. One taken over republishes its last outbox first."""
        missing: list[Lane] = []
        for lane in lanes:
            held = self.cache.take(lane.key)
            if held is None:
                try:
                    check_key(lane.key)
                except UndecodableMessage as error:
                    await self._bury_all(lane, str(error))
                    continue
                held = self._committer.take_back(StateKey(self.name, lane.key))
            if held is None:
                missing.append(lane)
            else:
                held.vouched = 0
                found[lane.key] = held
        if not missing:
            return
        keys = [StateKey(self.name, lane.key) for lane in missing]
        came = [len(lane.waiting) for lane in missing]
        stored, broken = await load_states(self.name, keys, self._states)
        for lane, key, vouched in zip(missing, keys, came, strict=True):
            held = None
            try:
                if key in broken:
                    raise broken[key]
                held = self._held(key, stored.get(key))
                await self._publish_last(held)
                held.vouched = vouched
                found[lane.key] = held
            except DamagedState as damage:
                await self._repairs.wait(lane, held, damage)
            except Exception as error:  # noqa: BLE001 (one bad key leaves the others alone)
                await self._fail_alone(lane, error)

    async def _fail_alone(self, lane: Lane, error: Exception) -> None:
        """The instance of this lane cannot be had now. If that lasts, and storage and broker are well, it is parked."""
        now = self._clock.now()
        lane.fail(error, now, counted=is_counted(error))
        try:
            if lane.exhausted(now):
                await self._park(lane, None)
            elif isinstance(error, state.NewerSchema):
                await self._repairs.drop_surplus(lane)
        except Exception as failed:  # noqa: BLE001 (one bad key leaves the others alone)
            lane.fail(failed, now, counted=False)

    @staticmethod
    def _held(key: StateKey, stored: Stored | None) -> Held:
        if stored is None:
            return Held(key, None, None, published=True)
        return Held(key, head_of(key, stored), stored.version, published=stored.published)

    async def _publish_last(self, held: Held) -> None:
        """Publish the last outbox: whoever had the instance before may not have got to it."""
        head = held.head
        if head is not None and not held.published and head.sequence and not head.parked:
            longest = longest_of(self._sizes[0])
            await self._publisher.publish(await outbox_of(held, head, self._states, self._clock.now(), longest))
            held.sent = True

    async def _commit(self, steps: Sequence[tuple[Lane, Step]]) -> None:
        changes: list[Change] = [taken.change for _, taken in steps if taken.change is not None]
        outcomes = iter(await self._committer.commit(changes) if changes else [])
        settled: list[tuple[Lane, Step]] = []
        for lane, taken in steps:
            if taken.change is None:
                settled.append((lane, taken))
                continue
            outcome = next(outcomes)
            match outcome:
                case Written():
                    stalled = taken.stalled
                    taken.written(outcome.version)
                    if stalled is not None:
                        self._stalled(lane.key, stalled)
                    for method, error in taken.failures:
                        _logger.info("Workflow %s %s: %s failed: %.300s", self.name, lane.key, method, error)
                    settled.append((lane, taken))
                case Lost():
                    taken.held.discard_live()
                    if taken.change.expected is None and not await self._states.load([taken.held.key]):
                        await self._drop(lane, taken.decoded, taken.refusals())
                case Duplicate():
                    self._let_go(taken.held)
                    known = taken.known(outcome.deduplication_ids)
                    await self._drop(lane, known.deliveries, known.outgoing)
                case Refused():
                    self._let_go(taken.held)
                    lane.fail(InfiniticError(outcome.reason), self._clock.now(), counted=True)
                case StorageError():
                    self._let_go(taken.held)
                    lane.fail(outcome, self._clock.now(), counted=False)
        sent = await self._send(settled)
        for _, taken in sent:
            self._keep(taken)
        await self._settle([(lane, taken.fold) for lane, taken in sent])

    async def _send(self, settled: list[tuple[Lane, Step]]) -> list[tuple[Lane, Step]]:
        """Publish what these steps send, together; one by one if the broker refuses some of it. Returns those sent."""
        try:
            await self._publisher.publish([message for _, taken in settled for message in taken.outgoing])
        except (TransportClosed, TransportUnavailable):
            raise
        except TransportError:
            refused = True
        else:
            refused = False
            if not [taken for _, taken in settled if taken.buried]:
                return settled
        sent: list[tuple[Lane, Step]] = []
        for lane, taken in settled:
            try:
                if refused:
                    await self._publisher.publish(taken.outgoing)
                for delivery, reason in taken.buried:
                    _logger.error("Workflow %s %s: a message goes to the dead letters: %s", self.name, lane.key, reason)
                    await self._publisher.bury(self.topic, [delivery], reason)
            except (TransportClosed, TransportUnavailable):
                raise
            except TransportError as error:
                taken.held.discard_live()
                lane.fail(error, self._clock.now(), counted=is_counted(error))
            else:
                sent.append((lane, taken))
        return sent

    def _keep(self, taken: Step) -> None:
        """All that the transition wanted to be sent is sent: from here on others may evict the instance."""
        held = taken.held
        held.sent = True
        if held.version is None:
            return
        change = taken.change
        if change is None or change.expires_at is None:
            self.cache.put(held)
            return
        held.discard_live()
        if taken.sends_tasks:  # else whoever loads the tombstone only answers once more
            self._committer.let_go(held)

    async def _settle(self, handled: Sequence[tuple[Lane, Sequence[Delivery]]]) -> None:
        await self._subscription.ack([delivery for _, fold in handled for delivery in fold])
        for lane, fold in handled:
            lane.settle(fold)

    async def _drop(self, lane: Lane, deliveries: Sequence[Delivery], answers: Sequence[Outgoing]) -> None:
        """These inputs were taken before, or their instance is long gone: tell whoever asks, and go on without them."""
        if answers:
            await self._publisher.publish(answers)
        await self._settle([(lane, deliveries)])

    async def _park(self, lane: Lane, held: Held | None) -> None:
        """Its budget is used up: this and all later messages of the key go to the dead letters, in order (S38)."""
        reason = str(lane.failure) if lane.failure is not None else f"The instance {lane.key} is parked"
        if lane.key not in self._parked:
            if held is not None and held.head is not None and held.version is not None and not held.head.parked:
                now = self._clock.now()
                head = msgspec.structs.replace(held.head, parked=True)
                # No wake: it would be buried too.
                change = flag_change(held, head, Flag.PARKED, None, now)
                outcome = (await self._committer.commit([change]))[0]
                if isinstance(outcome, StorageError):
                    raise outcome
                if isinstance(outcome, Lost):
                    return  # the head was an old one: the lane is run again with the new one
            self._parked[lane.key] = None
            if len(self._parked) > REMEMBERED:  # those that are parked in storage are found there, too
                del self._parked[next(iter(self._parked))]
            _logger.error(
                "Workflow %s %s is parked, its messages go to the dead letters: %s",
                self.name,
                lane.key,
                reason,
            )
        deliveries = list(lane.waiting)
        questions: dict[Delivery, Outgoing] = {}
        if held is not None and held.head is not None:
            questions = answer_questions(self.name, deliveries, msgspec.structs.replace(held.head, parked=True))
        buried = [delivery for delivery in deliveries if delivery not in questions]
        if buried:
            await self._publisher.bury(self.topic, buried, reason)
        if questions:
            await self._publisher.publish(list(questions.values()))
        await self._settle([(lane, deliveries)])

    async def _bury_all(self, lane: Lane, reason: str) -> None:
        """All that waits in this lane can be of no instance."""
        deliveries = list(lane.waiting)
        _logger.error("%s: %d messages go to the dead letters: %s", self.topic.name, len(deliveries), reason)
        await self._publisher.bury(self.topic, deliveries, reason)
        await self._settle([(lane, deliveries)])

    def _let_go(self, held: Held) -> None:
        """Forget an instance; whoever loads it next need not send once more what was sent."""
        held.discard_live()
        if held.sent and not held.published and held.head is not None and not held.head.closed:
            self._committer.let_go(held)
