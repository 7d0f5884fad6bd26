"""The executor of workflow code in split mode.

An activation comes, a decision goes back to the engine.

Instances stay live between activations. One that is not here is replayed from its history. If the
engine has taken the decision of another executor instead, the digest in the next activation shows
it.

What a crash here does: nothing. The activation comes again, and is decided again. The engine takes
the first decision, and recognises later ones as repeats.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b

import msgspec

from infinitic import ids, topics
from infinitic.clock import Clock
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import DecodingError, InfiniticError, StorageError, TransportError
from infinitic.failures import fit_text
from infinitic.limits import STALL_REASON, Limits, compute_body_limit
from infinitic.messages import engine, executor
from infinitic.messages.commands import Command
from infinitic.messages.decoding import UndecodableMessage, check_key
from infinitic.messages.executor import Activate, Ask
from infinitic.replay.activating import activate
from infinitic.replay.divergence import describe_stall
from infinitic.replay.instance import Instance
from infinitic.replay.stops import TooMuchTogether
from infinitic.runtime.blame import OUTAGES, UNCOUNTED, is_counted
from infinitic.runtime.lane import Lane
from infinitic.runtime.lanes import BATCH_BYTES, PREFETCH, Lanes
from infinitic.runtime.memory_bounds import MemoryBounds
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.versions import MissingVersion, NewerCode, Patience, Told, find_spec
from infinitic.runtime.workflow_executor.asking import Asking
from infinitic.runtime.workflow_executor.live_instances import LiveInstance, LiveInstances
from infinitic.runtime.workflow_executor.opening import ActivationOver, Opening
from infinitic.runtime.workflow_executor.probes import answer_probe
from infinitic.storage import DamagedState, StateKey, Storage
from infinitic.transport import Delivery, Message, Outgoing

_logger = logging.getLogger("infinitic.engine")

_encode_commands = msgspec.json.Encoder().encode


class WorkflowExecutor:
    """Runs the code of one workflow, for state engines on other workers.

    An activation of a version that is not here is passed on to the topic of that version. There it
    waits for a worker that has that version, since such a worker takes from that topic, too.

    Args:
        name: the workflow.
        specs: the versions whose code is here. Versions may be added later.
        publisher: sends decisions.
        storage: where histories are read.
        clock: the time of day.
        concurrency: how many instances are worked on at once.
        bounds: how much is kept in memory.
        retention: seconds to keep closed instances; None: what their class says.
        told: the missing versions of which this worker has told.
        version: the version from whose topic it takes; None: it takes what any version can run.
    """

    def __init__(
        self,
        name: str,
        specs: Mapping[int, WorkflowSpec],
        publisher: Publisher,
        storage: Storage,
        clock: Clock,
        *,
        concurrency: int,
        bounds: MemoryBounds,
        retention: float | None,
        told: Told,
        version: int | None = None,
    ) -> None:
        self.name = name
        self.topic = topics.workflow_executor(name)
        self._version = version
        self._specs = specs
        self._publisher = publisher
        self._storage = storage
        self._states = storage.states
        self._clock = clock
        self._concurrency = concurrency
        self._buffer_bytes = bounds.buffer_bytes
        self._retention = retention
        self._live = LiveInstances(bounds.cache_size, bounds.cache_bytes)
        self._opening = Opening(name, storage.states)
        self._told = told
        self._patience = Patience()
        source = self.topic if version is None else topics.workflow_version(name, version)
        self._asking = Asking(name, source, specs, self._live, storage.states, clock)
        self._subscription = Subscription(publisher, source, PREFETCH)
        self._lanes: Lanes | None = None

    @property
    def joined(self) -> bool:
        """True while it receives."""
        return self._subscription.joined

    def count_held(self) -> Mapping[str, int]:
        """Count what is in memory for work that is not done. Live instances are only a cache."""
        lanes: Mapping[str, int] = {} if self._lanes is None else self._lanes.count_held()
        return {**lanes, **self._live.count_held()}

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
        await self.close()

    async def close(self) -> None:
        """Give back what is in hand."""
        self._live.close_all()
        await self._subscription.close()

    async def _handle(self, lanes: Sequence[Lane]) -> None:
        try:
            await self._decide_all(lanes)
        except Exception as error:  # noqa: BLE001 (whatever it is, the lanes are tried again, and it is logged there)
            for lane in lanes:
                if not lane.failed and (len(lanes) == 1 or isinstance(error, OUTAGES)):
                    lane.fail(error, self._clock.now(), counted=is_counted(error))
                elif lane.waiting and not lane.failed:  # one of them may be to blame
                    await self._handle([lane])

    async def _decide_all(self, lanes: Sequence[Lane]) -> None:
        waiting = deque(lanes)
        while waiting:
            try:
                await self._decide_some(waiting)
            finally:
                # Memory is bounded, also while nothing can be sent or acknowledged.
                self._live.evict()

    async def _decide_some(self, waiting: deque[Lane]) -> None:
        """Decide for the first lanes that wait, until there are enough bytes to be sent together.

        First the decisions are published, then the activations are acknowledged.
        """
        done: list[tuple[Lane, Delivery]] = []
        outgoing: list[Outgoing] = []
        size = 0
        while waiting and size < BATCH_BYTES:
            lane = waiting.popleft()
            delivery = lane.waiting[0]
            now = self._clock.now()
            if lane.is_exhausted(now):
                await self._publisher.dead_letter(self.topic, [delivery], str(lane.failure))
                with suppress(DecodingError):
                    message = executor.decode(delivery.message.body)
                    if isinstance(message, Ask):
                        outgoing.append(self._asking.refuse(lane.key, message, str(lane.failure), self._longest))
                    else:
                        outgoing.append(self._stall(lane.key, message.activation, message.epoch, str(lane.failure)))
                done.append((lane, delivery))
                continue
            try:
                check_key(lane.key)
                body = delivery.message.body
                message = executor.decode(body)
                decision: Outgoing | None
                if isinstance(message, Ask):
                    decision = await self._asking.answer(delivery.message, message, self._longest)
                else:
                    decision = await self._activate(lane.key, message, len(body))
            except UndecodableMessage as error:
                _logger.error("%s: a message goes to the dead letters: %s", self.topic.name, error)
                await self._publisher.dead_letter(self.topic, [delivery], str(error))
                outgoing += self._cannot_decode(lane.key, delivery.message.id, error)
                done.append((lane, delivery))
            except MissingVersion as missing:
                if self._version is not None or missing.version is None:
                    lane.fail(missing, now, counted=False)
                    continue
                outgoing.append(self._pass_on(delivery, missing, missing.version))
                done.append((lane, delivery))
            except NewerCode as newer:
                self._told.tell(newer)
                lane.fail(newer, now, counted=False)
            except Exception as error:  # noqa: BLE001 (whatever it is, the lane is tried again, and it is logged there)
                lane.fail(error, now, counted=is_counted(error))
            else:
                if decision is not None:
                    outgoing.append(decision)
                    size += len(decision.message.body)
                done.append((lane, delivery))
        if outgoing:
            await self._publisher.publish(outgoing)
        await self._subscription.ack([delivery for _, delivery in done])
        for lane, delivery in done:
            lane.settle([delivery])

    @property
    def _largest(self) -> int:
        """How many bytes a decision may have.

        It is one message, and its commands are stored as one value.
        """
        return min(self._publisher.transport.capabilities.max_payload, self._storage.capabilities.max_value)

    @property
    def _longest(self) -> int:
        """How many bytes the body of an answer may have."""
        return compute_body_limit(self._publisher.transport.capabilities.max_payload)

    def _pass_on(self, delivery: Delivery, missing: MissingVersion, version: int) -> Outgoing:
        """Publish an activation again, to wait for a worker that has its version.

        Nothing waits behind it here.
        """
        self._told.tell(missing)
        return Outgoing(topics.workflow_version(self.name, version), delivery.message)

    async def _activate(self, workflow_id: str, message: Activate, size: int) -> Outgoing | None:
        """Run the code for an activation.

        Args:
            workflow_id: the instance.
            message: the activation.
            size: the bytes of that message.

        Returns:
            The decision. None if the activation is over: the instance has gone on, or is gone.

        Raises:
            MissingVersion: the code is not here.
            Exception: what may pass. The activation is tried again.
        """
        live = self._live.take(workflow_id)
        try:
            spec = find_spec(self.name, self._specs, message.version)
        except MissingVersion:
            if live is not None:  # another one's decision was the first, and that had another version
                live.instance.close()
            raise
        if message.probe is not None:
            if live is not None:
                live.instance.close()
            key = StateKey(self.name, workflow_id)
            found = await answer_probe(key, message, message.probe, spec, self._states, self._clock)
            return self._answer(workflow_id, message.activation, message.epoch, found)
        if live is not None:
            same = (live.epoch, live.instance.run) == (message.epoch, message.run) and live.instance.spec is spec
            if same and live.instance.activations == message.activation:
                self._live.keep(workflow_id, live)
                return live.decision
            fits = live.instance.activations == message.activation - 1 and live.digest == message.digest
            if not (same and fits):
                live.instance.close()
                live = None
        instance = live.instance if live is not None else self._make_instance(spec, workflow_id, message)
        unread = live.unread if live is not None and message.skip else None
        try:
            opened = await self._opening.open(instance, message, replay=live is None, unread=unread)
            limits = Limits.sent(self._largest)
            try:
                commands = activate(instance, opened.at, opened.stimuli, each=opened.each, limits=limits)
            except TooMuchTogether as full:
                instance.close()
                instance = self._make_instance(spec, workflow_id, message)
                opened = await self._opening.open(instance, message, replay=True)
                commands = activate(instance, opened.at, opened.stimuli[: full.fits], each=opened.each, limits=limits)
        except ActivationOver:
            instance.close()
            _logger.debug("Workflow %s %s: activation %d is over", self.name, workflow_id, message.activation)
            return None
        except InfiniticError as fault:
            instance.close()
            transient = (*UNCOUNTED, StorageError, TransportError)
            if isinstance(fault, transient) and not isinstance(fault, DamagedState):
                raise
            self._patience.check_newer(self.name, workflow_id, fault, self._clock.now())
            return self._stall(workflow_id, message.activation, message.epoch, str(fault))
        except BaseException:
            instance.close()
            raise
        partial = instance.handed if opened.more or instance.handed < len(opened.stimuli) else None
        digest = _compute_digest(commands, partial)
        retention = spec.retention if self._retention is None else self._retention
        decision = self._decide(
            workflow_id,
            engine.Decision(
                made_at=self._clock.now(),
                activation=message.activation,
                version=spec.version,
                retention=retention,
                digest=digest,
                commands=tuple(commands),
                epoch=message.epoch,
                handed=partial,
                failures=tuple(instance.failures),
                cleanup=instance.cleanup,
                carry=instance.carry,
            ),
        )
        asked, limit = len(decision.message.body), compute_body_limit(self._largest)
        if asked > limit:
            instance.close()
            reason = f"What one activation asks for has {asked:,} bytes, above the limit of {limit:,} bytes"
            return self._stall(workflow_id, message.activation, message.epoch, reason)
        # What is left of a re-opened one may lie behind stimuli that are undone: a replay finds it.
        scattered = partial is not None and bool(message.undone)
        if scattered or (instance.at_end and partial is None):  # nothing is to come; if something does, it is replayed
            instance.close()
        else:
            handed = (0 if live is None else live.handed) + (opened.size or size) + asked
            left = None if partial is None else opened.find_unread(partial, 0 if unread is None else unread.size)
            kept = LiveInstance(instance, message.epoch, digest, decision, handed, left, partial is not None)
            self._live.keep(workflow_id, kept)
        return decision

    @staticmethod
    def _make_instance(spec: WorkflowSpec, workflow_id: str, message: Activate) -> Instance:
        instance = Instance(spec, workflow_id, message.meta, message.run)
        instance.tags, instance.custom_id = message.tags, message.custom_id
        return instance

    def _cannot_decode(self, workflow_id: str, message_id: str, why: UndecodableMessage) -> list[Outgoing]:
        """Tell the state engine, which waits for a decision. Other ids name no activation."""
        named = ids.read_activation(message_id, workflow_id)
        if named is None:
            return []
        activation, epoch = named
        reason = f"Activation {activation} went to the dead letters: {why}"
        return [self._stall(workflow_id, activation, epoch, reason)]

    def _stall(self, workflow_id: str, activation: int, epoch: int, reason: str) -> Outgoing:
        """Tell the state engine that this activation cannot be run."""
        reason = fit_text(reason, STALL_REASON)
        _logger.error("%s", describe_stall(self.name, workflow_id, reason))
        stalled = engine.Decision(made_at=self._clock.now(), activation=activation, stalled=reason, epoch=epoch)
        return self._decide(workflow_id, stalled)

    def _decide(self, workflow_id: str, decision: engine.Decision) -> Outgoing:
        return self._answer(workflow_id, decision.activation, decision.epoch or 0, decision)

    def _answer(self, workflow_id: str, activation: int, epoch: int, answer: engine.Input) -> Outgoing:
        number = ids.activation_id(workflow_id, activation, epoch)
        return Outgoing(topics.workflow_engine(self.name), Message(number, workflow_id, engine.encode(answer)))


def _compute_digest(commands: Sequence[Command], partial: int | None) -> str:
    """Compute the digest by which an executor recognises its own decision in the next activation.

    Two decisions with the same commands differ if they leave different stimuli to the next
    activation.
    """
    handed = b"" if partial is None else b"%d" % partial
    return blake2b(_encode_commands(commands) + handed, digest_size=12).hexdigest()
