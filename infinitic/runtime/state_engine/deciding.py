"""Phase 2 of a step: **decided**.

Take the inputs, run the code, and make all that is written and sent.

Deciding reads the storage, but it writes and sends nothing. What a crash here does: nothing. The
messages come again, and are decided again, perhaps otherwise.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import NamedTuple

from infinitic.clock import Clock
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.engines.workflow import is_runnable
from infinitic.errors import InfiniticError, NonDeterminismError, WorkflowCodeError
from infinitic.limits import Limits, compute_body_limit
from infinitic.messages.events import Event
from infinitic.replay.stops import TooMuchTogether
from infinitic.runtime.blame import is_counted
from infinitic.runtime.event_switch import EventSwitch
from infinitic.runtime.history import read_segments
from infinitic.runtime.lanes import BATCH_BYTES
from infinitic.runtime.state_engine.activation import activate, activate_elsewhere, stall_draft
from infinitic.runtime.state_engine.asking import answer_queries
from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.closing import DecidedStep, Sizes, close, find_missing, leave_running, looks_back
from infinitic.runtime.state_engine.inputs import Draft, put_start_first, take_inputs
from infinitic.runtime.state_engine.instances import Instances
from infinitic.runtime.state_engine.local_tasks import LocalTasks
from infinitic.runtime.state_engine.receiving import ReceivedStep
from infinitic.runtime.state_engine.reopening import Reopening
from infinitic.runtime.state_engine.repairs import Repairs
from infinitic.runtime.state_engine.skew import Skew
from infinitic.runtime.state_engine.takeover import revive
from infinitic.runtime.versions import MissingVersion, NewerCode, Told, check_newer, find_spec
from infinitic.storage import DamagedState, Storage, StorageCapabilities
from infinitic.transport import Capabilities, Delivery, Transport

_NO_SEGMENTS: Mapping[int, Sequence[Event]] = {}


class OutdatedInstance(InfiniticError):
    """What memory holds of an instance is older than what is stored."""


class _Bounds(NamedTuple):
    """What follows from the capabilities of both adapters, which may change as these connect."""

    transport: Capabilities
    storage: StorageCapabilities
    limits: Limits
    sizes: Sizes
    largest: int


def _make_bounds(transport: Capabilities, storage: StorageCapabilities) -> _Bounds:
    longest = compute_body_limit(transport.max_payload)
    limits = Limits.stored(transport.max_payload, storage.max_value)
    sizes = Sizes(longest, storage.max_value, min(longest, storage.max_value))
    return _Bounds(transport, storage, limits, sizes, compute_body_limit(storage.max_value))


class Deciding:
    """Decides what steps of one workflow write and send.

    Args:
        name: the workflow.
        specs: its versions whose code this worker runs itself (*fused*). Empty: the code runs on
            other workers (*split*). Versions may be added later.
        storage: where histories are read.
        transport: what is decided must fit into its messages.
        instances: those in memory.
        repairs: for instances whose state is damaged.
        clock: the time of day.
        retention: seconds to keep closed instances; None: what their class says.
        told: the missing versions that this worker has logged already.
        event_switch: whether event listeners are told.
        local: runs local tasks.
    """

    def __init__(
        self,
        name: str,
        specs: Mapping[int, WorkflowSpec],
        storage: Storage,
        transport: Transport,
        instances: Instances,
        repairs: Repairs,
        clock: Clock,
        *,
        retention: float | None,
        told: Told,
        event_switch: EventSwitch,
        local: LocalTasks,
    ) -> None:
        self._name = name
        self._specs = specs
        self._states = storage.states
        self._storage = storage
        self._transport = transport
        self._window = storage.capabilities.deduplication_window
        self._instances = instances
        self._repairs = repairs
        self._clock = clock
        self._retention = retention
        self._told = told
        self._event_switch = event_switch
        self._local = local
        self._skew = Skew(name)
        self._reopening = Reopening(specs, storage.states)
        self._bounds = _make_bounds(transport.capabilities, storage.capabilities)

    async def decide(self, waiting: deque[ReceivedStep]) -> list[DecidedStep]:
        """Decide the first steps that wait, until they have enough bytes to be committed together.

        A step that cannot be decided fails its lane, and leaves the others alone. One that waits
        for local tasks is left out: it comes again when its lane is resumed.

        Args:
            waiting: the steps that wait. Those that were looked at are removed from it.
        """
        decided: list[DecidedStep] = []
        size = 0
        now, window = self._clock.now(), self._window
        bounds = self._bounds
        if bounds.transport is not self._transport.capabilities or bounds.storage is not self._storage.capabilities:
            bounds = self._bounds = _make_bounds(self._transport.capabilities, self._storage.capabilities)
        tells = self._event_switch.on
        limits, sizes, largest = bounds.limits, bounds.sizes, bounds.largest
        while waiting and size < BATCH_BYTES:
            received = waiting.popleft()
            lane, instance = received.lane, received.instance
            before = instance.bytes
            try:
                resumed = None if lane.under_way is None else self._local.find_open(received)
                if resumed is None:
                    batch: Sequence[Delivery] = lane.take_batch()
                    if instance.head is None and len(lane.waiting) > 1:
                        batch = put_start_first(batch, islice(lane.waiting, max(received.current_for, len(batch))))
                        batch = batch[:1] if lane.tries else batch
                    inputs = take_inputs(instance, batch, now, window, largest)
                else:
                    inputs = resumed.inputs
                if inputs.early:
                    self._skew.tell(inputs.early)
                draft = inputs.draft if inputs.decision is None else inputs.decision
                activated = inputs.decision is not None
                if resumed is not None:
                    grown = self._local.go_on(resumed)
                    if grown is None:
                        continue
                    draft, activated, now = grown, True, self._clock.now()
                elif inputs.probe is not None:
                    draft = await self._reopening.decide(instance, inputs.probe, now)
                elif draft.head is not None and is_runnable(draft.head):
                    # After a decision of another worker, that worker runs the next activation, too.
                    spec = None if activated else self._find_spec(draft)
                    if spec is not None:
                        try:
                            stored = instance.head
                            if instance.live is None and stored is not None and stored.sequence:
                                draft = await self._revive_and_activate(instance, draft, spec, now, limits)
                            else:
                                try:
                                    draft = activate(instance, draft, spec, now, self._retention, limits)
                                except TooMuchTogether as full:
                                    fits = full.fits
                                    draft = await self._revive_and_activate(instance, draft, spec, now, limits, fits)
                            activated = draft.fault is None
                            if activated and self._local.runners and self._local.is_wanted(lane, inputs, draft, spec):
                                await self._check_current(received)
                                grown = self._local.begin(received, inputs, draft, spec, limits)
                                if grown is None:
                                    continue
                                draft, now = grown, self._clock.now()
                        except NewerCode as newer:
                            self._told.tell(newer)
                            spec = None
                    if spec is None:
                        draft = activate_elsewhere(draft, now)
                segments = _NO_SEGMENTS
                if inputs.looks_back or looks_back(draft):
                    missing = find_missing(instance.head, inputs, draft)
                    if missing:
                        try:
                            segments = await read_segments(instance.key, missing, self._states)
                        except DamagedState:
                            draft = leave_running(draft)
                            if find_missing(instance.head, inputs, draft):
                                raise
                step = close(received, inputs, draft, segments, now, sizes, activated=activated, tells=tells)
                if lane.under_way is not None and step.draft is not draft:
                    self._local.undo(lane)
                if inputs.questions:
                    undone = step.draft is not draft
                    spec = self._find_spec(draft)
                    step = await answer_queries(step, spec, self._states, now, sizes.message, undone=undone)
            except DamagedState as damage:
                instance.discard_live()
                await self._repairs.wait(lane, instance, damage)
                self._instances.release(instance)
            except OutdatedInstance:
                # What is held in memory is of no use. It is loaded again at once.
                instance.discard_live()
            except Exception as error:  # noqa: BLE001 (one bad key leaves the others alone)
                self._instances.release(instance)
                if not self._local.retreat(lane, error):
                    lane.fail(error, now, counted=is_counted(error))
            else:
                decided.append(step)
                size += step.bytes + instance.bytes - before
        return decided

    async def _check_current(self, received: ReceivedStep) -> None:
        """Make sure that an instance from memory is as it is stored, before local tasks run for it.

        The commit would find that out too late: they would have run for what never happened.

        Raises:
            OutdatedInstance: another worker has changed it. It is loaded again at once.
            StorageError: it cannot be looked up.
        """
        instance = received.instance
        if received.current_for:
            return
        stored = (await self._states.load([instance.key])).get(instance.key)
        if (None if stored is None else stored.version) != instance.version:
            raise OutdatedInstance(f"{instance.key} was changed by another worker")

    def _find_spec(self, draft: Draft) -> WorkflowSpec | None:
        """The code that the stimuli are handed to; None if it is on another worker."""
        specs, version = self._specs, None if draft.head is None else draft.head.version
        if version is not None and version in specs:  # the usual case
            return specs[version]
        if not specs:
            return None
        try:
            return find_spec(self._name, specs, version)
        except MissingVersion as missing:
            self._told.tell(missing)
            return None

    async def _revive_and_activate(
        self,
        instance: CachedInstance,
        draft: Draft,
        spec: WorkflowSpec,
        now: float,
        limits: Limits,
        most: int | None = None,
    ) -> Draft:
        """Hand the stimuli to code that has no live object here.

        If it has a history, that is replayed first.
        """
        while True:
            if instance.live is None and instance.head is not None and instance.head.sequence:
                try:
                    await revive(instance, spec, self._states)
                except (NonDeterminismError, WorkflowCodeError, DamagedState) as fault:
                    check_newer(self._name, fault)
                    return stall_draft(instance, draft, fault)
            try:
                return activate(instance, draft, spec, now, self._retention, limits, most)
            except TooMuchTogether as full:
                most = full.fits
