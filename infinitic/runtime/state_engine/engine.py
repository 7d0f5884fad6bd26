"""The state engine of one workflow. A step goes through five phases, and each has a module:

1. `receiving`: the messages of a key, and their instance (`ReceivedStep`);
2. `deciding`: what is to be written and sent (`DecidedStep`);
3. `committing`: it is written (`CommittedSteps`);
4. `publishing`: it is sent (`PublishedSteps`);
5. `settling`: the messages are acknowledged. Only then can the next step of that key begin.

Each phase takes the value that the one before has made. So nothing can be published that is not
committed, and nothing be acknowledged that is not published.

Where broker and storage are the same database, the last three phases are one: `committing_whole`.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

from infinitic import topics
from infinitic.clock import Clock
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import InfiniticError, StorageError
from infinitic.runtime.blame import OUTAGES, is_counted
from infinitic.runtime.event_switch import EventSwitch
from infinitic.runtime.lane import Lane
from infinitic.runtime.lanes import PREFETCH, Lanes
from infinitic.runtime.local_tasks import LocalRunner
from infinitic.runtime.memory_bounds import MemoryBounds
from infinitic.runtime.publisher import Publisher
from infinitic.runtime.state_engine.committing import Committing
from infinitic.runtime.state_engine.committing_whole import CommittingWhole
from infinitic.runtime.state_engine.deciding import Deciding
from infinitic.runtime.state_engine.group_commit import GroupCommit
from infinitic.runtime.state_engine.instances import Instances
from infinitic.runtime.state_engine.local_tasks import LocalTasks
from infinitic.runtime.state_engine.news import Telling
from infinitic.runtime.state_engine.parking import Parking
from infinitic.runtime.state_engine.publishing import Publishing
from infinitic.runtime.state_engine.receiving import ReceivedStep, Receiving
from infinitic.runtime.state_engine.refusing import Refusing
from infinitic.runtime.state_engine.repairs import Repairs
from infinitic.runtime.state_engine.settling import Settling
from infinitic.runtime.state_engine.takeover import Takeover
from infinitic.runtime.subscription import Subscription
from infinitic.runtime.versions import Told
from infinitic.shared_commit import SharedCommit
from infinitic.storage import Storage
from infinitic.transport import Delivery, Support

_logger = logging.getLogger("infinitic.engine")

MOST_SUSPENDED = 500
"""How many lanes may wait for local tasks at once: as many again have room beside them."""

_NO_RUNNERS: Mapping[str, LocalRunner] = MappingProxyType({})


class StateEngine:
    """Runs the instances of one workflow.

    Args:
        name: the workflow.
        specs: its versions whose code this worker runs itself (*fused*). Empty: the code runs on
            other workers (*split*). Versions may be added later.
        publisher: sends messages.
        storage: where instances are.
        group_commit: writes the changes of all state engines of this worker.
        clock: the time of day.
        concurrency: how many instances are worked on at once.
        bounds: how much is kept in memory.
        retention: seconds to keep closed instances; None: what their class says.
        told: the missing versions of which this worker has told.
        on_stall: called with the id of an instance that stalls, and the reason.
        purge_soon: called when an instance was deleted.
        event_switch: whether event listeners are told; None: they are not.
        shared_commit: that of the broker and the storage; None: they share none.
        runners: the executors of this worker that run local tasks, by service. It may grow.
    """

    def __init__(
        self,
        name: str,
        specs: Mapping[int, WorkflowSpec],
        publisher: Publisher,
        storage: Storage,
        group_commit: GroupCommit,
        clock: Clock,
        *,
        concurrency: int,
        bounds: MemoryBounds,
        retention: float | None,
        told: Told,
        on_stall: Callable[[str, InfiniticError], None],
        purge_soon: Callable[[], None],
        event_switch: EventSwitch | None = None,
        shared_commit: SharedCommit | None = None,
        runners: Mapping[str, LocalRunner] = _NO_RUNNERS,
    ) -> None:
        self.name = name
        self.topic = topics.workflow_engine(name)
        self._group_commit = group_commit
        self._clock = clock
        self._concurrency = concurrency
        self._buffer_bytes = bounds.buffer_bytes
        self._subscription = Subscription(publisher, self.topic, PREFETCH)
        self._lanes: Lanes | None = None

        states, subscription = storage.states, self._subscription
        self._instances = instances = Instances(name, bounds.cache_size, bounds.cache_bytes, group_commit)
        refusing = Refusing(publisher, subscription)
        telling = Telling(name, on_stall)
        self._committing = Committing(name, states, group_commit, instances, clock, telling)
        repairs = Repairs(name, states, group_commit, publisher, subscription, clock, telling)
        self._receiving = Receiving(
            name,
            states,
            instances,
            Takeover(states, publisher, clock),
            Parking(name, group_commit, refusing, clock),
            refusing,
            repairs,
            telling,
            clock,
        )
        capabilities = publisher.transport.capabilities
        self._counts_redeliveries = capabilities.support("RED-3") is Support.GUARANTEED
        self._subscribed_at = 0.0
        self._is_draining = False
        self._local = LocalTasks(
            runners,
            clock,
            storage.capabilities.deduplication_window,
            retention,
            self._resume,
            self._may_suspend,
            self._is_suspect,
        )
        self._deciding = Deciding(
            name,
            specs,
            storage,
            publisher.transport,
            instances,
            repairs,
            clock,
            retention=retention,
            told=told,
            event_switch=event_switch or EventSwitch(),
            local=self._local,
        )
        self._publishing = Publishing(name, self.topic, publisher, clock)
        self._settling = Settling(instances, subscription, purge_soon)
        self._whole = None
        if shared_commit is not None:
            self._whole = CommittingWhole(
                shared_commit, subscription, self._committing, self._publishing, self._settling
            )

    @property
    def joined(self) -> bool:
        """True while it receives."""
        return self._subscription.joined

    def count_held(self) -> Mapping[str, int]:
        """Count what is in memory for work that is not done.

        Cached instances of running workflows do not count, up to their bounds.
        """
        lanes: Mapping[str, int] = {} if self._lanes is None else self._lanes.count_held()
        local = {"bytes of local tasks": self._local.kept.bytes}
        return {**lanes, **local, **self._instances.count_held(), **self._group_commit.count_held()}

    async def start(self) -> None:
        """Join the subscription."""
        self._subscribed_at = self._clock.now()
        await self._subscription.join()
        self._lanes = Lanes(self._subscription, self._handle, self._clock, self._concurrency, self._buffer_bytes)

    async def run(self) -> None:
        """Work until cancelled."""
        assert self._lanes is not None
        await self._lanes.run()

    async def drain(self) -> None:
        """Finish what is in work, and leave the subscription."""
        self._is_draining = True
        if self._lanes is not None:
            await self._lanes.drain()
        self._instances.release_all()
        try:
            await self._group_commit.flush()
        except StorageError as error:
            _logger.warning("Draining: %s; whoever takes over publishes the last messages again", error)
        await self.close()

    async def close(self) -> None:
        """Give back what is in hand."""
        if self._lanes is not None:
            self._lanes.abandon()
        self._instances.discard_all()
        self._group_commit.close()
        await self._subscription.close()

    async def _handle(self, lanes: Sequence[Lane]) -> None:
        """Handle a batch of lanes: each of them is settled, has failed, or is run again."""
        try:
            await self._run_steps(lanes)
        except Exception as error:  # noqa: BLE001 (whatever it is, the lanes are tried again, and it is logged there)
            if len(lanes) == 1 or isinstance(error, OUTAGES):
                self._fail(lanes, error)
                return
            for lane in lanes:  # one of them may be to blame
                if lane.waiting and not lane.failed and not _is_suspended(lane):
                    await self._handle([lane])

    async def _run_steps(self, lanes: Sequence[Lane]) -> None:
        """Have one step of each lane go through all phases, in batches of some megabytes."""
        local = self._local
        resumed: Sequence[ReceivedStep] = ()
        if local.runners:
            resumed, lanes = local.take_resumed(lanes)
        received = await self._receiving.receive(lanes) if lanes else []
        received += resumed
        waiting = deque(received)
        try:
            while waiting:
                decided = await self._deciding.decide(waiting)
                if local.runners:
                    await local.tell(decided)
                if self._whole is not None:
                    decided = await self._whole.commit(decided)
                    if not decided:
                        continue
                committed = await self._committing.commit(decided)
                published = await self._publishing.publish(committed)
                await self._settling.settle(published)
        except BaseException as error:
            cut = [each for each in received if not _is_suspended(each.lane)]
            for each in cut:
                local.forget_try(each.lane)
            self._instances.abandon([each.instance for each in cut], error)
            raise

    def _resume(self, lane: Lane) -> None:
        if self._lanes is not None:
            self._lanes.resume(lane)

    def _may_suspend(self) -> bool:
        return not self._is_draining and self._lanes is not None and self._lanes.suspended < MOST_SUSPENDED

    def _is_suspect(self, delivery: Delivery) -> bool:
        """Whether a process may have died with a delivery."""
        if delivery.attempt > 1:
            return True
        return not self._counts_redeliveries and delivery.published_at < self._subscribed_at

    def _fail(self, lanes: Sequence[Lane], error: Exception) -> None:
        """What memory holds of these lanes may be wrong now: it is loaded again.

        The storage blames no lane.
        """
        counted = is_counted(error) and not isinstance(error, StorageError)
        for lane in lanes:
            if _is_suspended(lane):
                continue
            self._local.forget_try(lane)
            self._instances.forget(lane.key)
            if not lane.failed:
                lane.fail(error, self._clock.now(), counted=counted)


def _is_suspended(lane: Lane) -> bool:
    return lane.under_way is not None and lane.under_way.is_suspended
