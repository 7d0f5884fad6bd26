"""The executor of workflow code in split mode: an activation comes, a decision goes back to the state engine.

Instances stay live between activations; one that is not here is replayed from the history in storage. A decision that
the engine did not take (another executor's came first) shows in the digest that comes with the next activation.
"""

from __future__ import annotations

import logging
from collections import OrderedDict, deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import blake2b

import msgspec

from infinitic import ids, topics
from infinitic.clock import Clock
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.workflow.render import Outgoing
from infinitic.errors import DecodingError, InfiniticError, StorageError, TransportError
from infinitic.failures import fit_text
from infinitic.limits import STALL_REASON, Limits, compute_body_limit
from infinitic.messages import engine, executor
from infinitic.messages.commands import Command
from infinitic.messages.decoding import UndecodableMessage, check_key
from infinitic.messages.executor import Activate
from infinitic.replay.divergence import describe_stall
from infinitic.replay.history import Replay
from infinitic.replay.instance import Instance
from infinitic.replay.recorder import TooMuchTogether
from infinitic.runtime.blame import OUTAGES, UNCOUNTED, is_counted
from infinitic.runtime.history import decode_head, feed_history
from infinitic.runtime.lane import Lane
from infinitic.runtime.lanes import BATCH_BYTES, PREFETCH, Lanes
from infinitic.runtime.memory_bounds import MemoryBounds, is_above
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.versions import MissingVersion, Told, find_spec
from infinitic.runtime.workflow_executor.stimuli import Opened, Unread, read_stimuli
from infinitic.storage import DamagedState, StateKey, Storage
from infinitic.transport import Delivery, Message

_logger = logging.getLogger("infinitic.engine")

_encode_commands = msgspec.json.Encoder().encode


class _Over(Exception):
    """Nobody waits for the decision of this activation any more."""


class _Live:
    """A live instance, with the decision of its last activation: it may be asked for again.

    `handed` is how many bytes of history it was handed or asked for: it may hold all of them. `unread` is what was read
    for it and left to the next activation.
    """

    __slots__ = ("decision", "digest", "epoch", "handed", "instance", "unread")

    def __init__(
        self, instance: Instance, epoch: int, digest: str, decision: Outgoing, handed: int, unread: Unread | None
    ) -> None:
        self.instance = instance
        self.epoch = epoch
        self.digest = digest
        self.decision = decision
        self.handed = handed
        self.unread = unread

    @property
    def bytes(self) -> int:
        """About how much memory it takes."""
        return self.handed + len(self.decision.message.body)


class WorkflowExecutor:
    """Runs the code of one workflow, for state engines on other workers.

    An activation of a version that is not here is passed on to the topic of that version, where it waits for a worker
    that has it: whoever has a version takes from its topic, too. `version`: this executor does, for that version.
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
        self._cache_size = bounds.cache_size
        self._cache_bytes = bounds.cache_bytes
        self._retention = retention
        self._live: OrderedDict[str, _Live] = OrderedDict()
        self._live_bytes = 0
        self._told = told
        source = self.topic if version is None else topics.workflow_version(name, version)
        self._subscription = Subscription(publisher, source, PREFETCH)
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
        await self.close()

    async def close(self) -> None:
        """Give back what is in hand."""
        while self._live:
            self._discard_oldest()
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
            await self._decide_some(waiting)

    async def _decide_some(self, waiting: deque[Lane]) -> None:
        """Decide for the first lanes that wait, until there are enough bytes to be sent together."""
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
                    outgoing.append(self._stall(lane.key, message.activation, message.epoch, str(lane.failure)))
                done.append((lane, delivery))
                continue
            try:
                check_key(lane.key)
                body = delivery.message.body
                decision = await self._activate(lane.key, executor.decode(body), len(body))
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
        while len(self._live) > self._cache_size or is_above(self._live_bytes, self._cache_bytes, len(self._live)):
            self._discard_oldest()

    def _discard_oldest(self) -> None:
        live = self._take(next(iter(self._live)))
        if live is not None:
            live.instance.close()

    def _take(self, workflow_id: str) -> _Live | None:
        """Take a live instance out: nobody discards it meanwhile."""
        live = self._live.pop(workflow_id, None)
        if live is not None:
            self._live_bytes -= live.bytes
        return live

    def _keep(self, workflow_id: str, live: _Live) -> None:
        """The one most recently used."""
        self._live[workflow_id] = live
        self._live_bytes += live.bytes

    @property
    def _largest(self) -> int:
        """Bytes that a decision may have: it travels in one message, and its commands are stored as one value."""
        return min(self._publisher.transport.capabilities.max_payload, self._storage.capabilities.max_value)

    def _pass_on(self, delivery: Delivery, missing: MissingVersion, version: int) -> Outgoing:
        """Have it wait for a worker that has this version: nothing waits here for it, nor behind it."""
        self._told.tell(missing)
        return Outgoing(topics.workflow_version(self.name, version), delivery.message)

    async def _activate(self, workflow_id: str, message: Activate, size: int) -> Outgoing | None:
        """The decision for an activation; None for one that is over, of an instance that has gone on or is gone.

        `size` is that of the message, in bytes.
        """
        live = self._take(workflow_id)
        try:
            spec = find_spec(self.name, self._specs, message.version)
        except MissingVersion:
            if live is not None:  # another one's decision was the first, and that had another version
                live.instance.close()
            raise
        if live is not None:
            same = live.epoch == message.epoch and live.instance.spec is spec
            if same and live.instance.activations == message.activation:
                self._keep(workflow_id, live)
                return live.decision
            fits = live.instance.activations == message.activation - 1 and live.digest == message.digest
            if not (same and fits):
                live.instance.close()
                live = None
        instance = live.instance if live is not None else Instance(spec, workflow_id, message.meta)
        unread = live.unread if live is not None and message.skip else None
        try:
            opened = await self._open(instance, message, replay=live is None, unread=unread)
            limits = Limits.sent(self._largest)
            try:
                commands = instance.activate(opened.at, opened.stimuli, each=opened.each, limits=limits)
            except TooMuchTogether as full:
                instance.close()
                instance = Instance(spec, workflow_id, message.meta)
                opened = await self._open(instance, message, replay=True)
                commands = instance.activate(opened.at, opened.stimuli[: full.fits], each=opened.each, limits=limits)
        except _Over:
            instance.close()
            _logger.debug("Workflow %s %s: activation %d is over", self.name, workflow_id, message.activation)
            return None
        except InfiniticError as fault:
            instance.close()
            transient = (*UNCOUNTED, StorageError, TransportError)
            if isinstance(fault, transient) and not isinstance(fault, DamagedState):
                raise
            return self._stall(workflow_id, message.activation, message.epoch, str(fault))
        except BaseException:
            instance.close()
            raise
        taken = instance.handed if opened.more or instance.handed < len(opened.stimuli) else None
        digest = _digest(commands, taken)
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
                handed=taken,
                failures=tuple(instance.failures),
            ),
        )
        asked, limit = len(decision.message.body), compute_body_limit(self._largest)
        if asked > limit:
            instance.close()
            reason = f"What one activation asks for has {asked:,} bytes, above the limit of {limit:,} bytes"
            return self._stall(workflow_id, message.activation, message.epoch, reason)
        if instance.at_end and taken is None:  # nothing is to come; if something does, it is replayed
            instance.close()
        else:
            handed = (0 if live is None else live.handed) + (opened.size or size) + asked
            left = None if taken is None else opened.left(taken, 0 if unread is None else unread.size)
            self._keep(workflow_id, _Live(instance, message.epoch, digest, decision, handed, left))
        return decision

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

    async def _open(
        self, instance: Instance, message: Activate, *, replay: bool, unread: Unread | None = None
    ) -> Opened:
        """What this activation hands over. `replay`: the instance is a new one, and first runs all that was before.

        `unread` is what the activation before has left, if it was made here.
        """
        key = StateKey(self.name, instance.id)
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
            raise _Over
        raise DamagedState(key, "The history", f"it does not hold activation {message.activation}")

    async def _read(self, key: StateKey, message: Activate, unread: Unread | None) -> Opened | None:
        try:
            return await read_stimuli(self._states, key, message, unread)
        except DamagedState:
            if await self._is_over(key, message):
                raise _Over from None
            raise

    async def _replay(self, instance: Instance, key: StateKey, message: Activate) -> Opened | None:
        replay = Replay(instance)
        try:
            check = await feed_history(replay, key, message.sequence, self._states)
            unanswered = replay.finish(unanswered=True)
        except DamagedState:
            if await self._is_over(key, message):  # purged, say
                raise _Over from None
            raise
        if unanswered is None or unanswered[0].number != message.activation:
            return None
        opened, stimuli = unanswered
        return Opened(opened.at, stimuli, opened.each, more=False, size=check.bytes)

    async def _is_over(self, key: StateKey, message: Activate) -> bool:
        """True if nobody waits for the decision: the instance has gone on, is closed, or is gone."""
        stored = (await self._states.load([key])).get(key)
        if stored is None:
            return True
        head = decode_head(key, stored)
        return not head.deciding or (head.activation, head.epoch) != (message.activation, message.epoch)

    def _decide(self, workflow_id: str, decision: engine.Decision) -> Outgoing:
        number = ids.activation_id(workflow_id, decision.activation, decision.epoch or 0)
        return Outgoing(topics.workflow_engine(self.name), Message(number, workflow_id, engine.encode(decision)))


def _digest(commands: Sequence[Command], taken: int | None) -> str:
    """By this an executor recognises its own decision in the next activation.

    One that leaves more stimuli to the next activation is another one, even if it asks for the same.
    """
    handed = b"" if taken is None else b"%d" % taken
    return blake2b(_encode_commands(commands) + handed, digest_size=12).hexdigest()
