"""Several workers in processes of their own, on one broker and one database, under faults."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from contextvars import Context, copy_context
from functools import partial
from typing import Any, cast

from infinitic.client.client import Client
from infinitic.codec.payloads import PayloadCodec
from infinitic.definitions.workflow_spec import WorkflowSpec
from infinitic.errors import InfiniticError
from infinitic.middleware.base import BaseMiddleware
from infinitic.runtime.service_executor import blocking
from infinitic.storage.integrity import ensure_checked
from infinitic.worker.listeners import DEFAULT_LISTENER, Listener
from infinitic_storages.memory import DEFAULT_DEDUPLICATION_WINDOW, InMemoryStorage
from infinitic_testing.choices import Choices
from infinitic_testing.cluster.afterlife import Afterlife
from infinitic_testing.cluster.catalog import Added, AddedWorkflow, Catalog
from infinitic_testing.cluster.direct import ObservedTransport
from infinitic_testing.cluster.draining import Draining, is_busy
from infinitic_testing.cluster.forced_local import ForcedLocal
from infinitic_testing.cluster.graveyard import Graveyard
from infinitic_testing.cluster.layouts import Seat, draw_seats
from infinitic_testing.cluster.member import Member
from infinitic_testing.cluster.nemesis import Nemesis
from infinitic_testing.cluster.run_log import RunLog
from infinitic_testing.cluster.system import System, Versions
from infinitic_testing.cluster.task_faults import TaskFaults
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.invariants import Invariants, LogWatch
from infinitic_testing.loop import VirtualClock, VirtualLoop, current_process
from infinitic_testing.network import Network

SHORT_WINDOW = 3600.0
"""Seconds of the deduplication window in some runs, so that purges happen in them.

A request that is older when it is first handled is refused. So such a run has faults only for a
part of this time.
"""

LONGEST_IDLE_WAIT = 2.0
"""Seconds of virtual time that `run_until_idle` lets pass at most, for messages on their way."""


class Cluster(System):
    """Workers that are killed, paused and replaced. The client of the test belongs to none of them.

    Attributes:
        layout: the kind of layout, see `LAYOUTS`.
        seats: where workers may be.
        members: all workers so far, in order of creation, also dead ones.
        network: the broker and the database, and all ways to them.
        watch: what takes effect is told to its observers.
        log: what took effect last.
        catalog: what the test has added.
        invariants: checks the rules that hold in every run.
        errors: what was logged as an error.
        nemesis: makes the faults that are not on the way to broker and storage.
        failure: what ended the run too early, or None.

    Args:
        choices: of the run.
        plan: the faults of the run.
        profile: of the broker.
        cache_size: of all workers. None: drawn for each seat.
        codec: encodes payloads.
        middleware: what stands around calls, attempts and activations. All workers share it.
        local: which tasks are local that are not declared so, see `forced_local.KINDS`.
    """

    def __init__(
        self,
        *,
        choices: Choices,
        plan: FaultPlan,
        profile: str,
        cache_size: int | None = None,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
        middleware: Sequence[BaseMiddleware] = (),
        local: str | None = None,
    ) -> None:
        self.choices = choices
        self.plan = plan
        self.codec = codec
        self.middleware = middleware
        self.clock = VirtualClock()
        self.log = RunLog(self.clock)
        # Longer than any message is late by a fault: what is older is refused, and rightly so.
        window = SHORT_WINDOW if choices.happens("settings/window", 0.3) else DEFAULT_DEDUPLICATION_WINDOW
        self.network = Network(
            choices=choices,
            plan=plan,
            profile=profile,
            on_violation=self._end_observing,
            clock=self.clock,
            deduplication_window=window,
        )
        self.watch = self.network.watch
        self.database = self.network.database
        self.transport = ObservedTransport(self.network)
        self.storage = ensure_checked(InMemoryStorage(self.network.database))
        self.client = Client(
            self.network.connect_client(),
            storage=self.network.connect_client_storage(),
            name="client",
            clock=self.clock,
            codec=codec,
            middleware=middleware,
            run_blocking=blocking.inline,
            make_id=choices.make_ids("client"),
        )
        task_faults = TaskFaults(plan, choices, lambda: self.nemesis.cut_after_task(current_process()))
        self.catalog = Catalog(codec, task_faults, ForcedLocal(local, choices))
        self.layout, self.seats = draw_seats(choices, cache_size=cache_size, old_code=plan.has("old-code"))
        self.members: list[Member] = []
        self.failure: BaseException | None = None
        self._stalled: dict[str, InfiniticError] = {}
        self.nemesis = Nemesis(self)
        self.invariants = Invariants(
            self.database,
            self.broker,
            clock=self.clock,
            specs=self.find_specs,
            choices=choices,
            replayed=0.2,
            is_ordered=lambda: not plan.fired["key-disorder"],
        )
        self.errors = LogWatch()
        self.watch.observers += [self.log, self.invariants, self.nemesis]
        self._block: asyncio.Task[Any] | None = None
        self._graveyard = Graveyard()
        self._context = Context()
        self._is_open = False
        # Those who wait for a change of the members.
        self._waiters: list[asyncio.Future[None]] = []

    # What a test adds.

    def add_service(self, implementation: object, **options: Any) -> None:
        self._host(self.catalog.add_service(implementation, options))

    def add_workflow(self, versions: Versions, **options: Any) -> None:
        added = self.catalog.add_workflow(versions, options)
        if isinstance(added, AddedWorkflow) and added.has_older and any(seat.has_old_code for seat in self.seats):
            self.plan.fired["old-code"] += 1
        self._host(added)

    def add_event_listener(self, listener: Listener, **options: Any) -> None:
        name, types = options.get("name", DEFAULT_LISTENER), options.get("types")
        watched = self.invariants.watch_listener(name, listener, types)
        self._host(self.catalog.add_event_listener(watched, options))

    def _host(self, added: Added) -> None:
        number = len(self.catalog) - 1
        for member in self.living():
            if not member.is_stopping:
                member.add(number, added)

    @property
    def stalled(self) -> Mapping[str, InfiniticError]:
        return self._stalled

    def find_specs(self, workflow: str) -> Mapping[int, WorkflowSpec]:
        return self.catalog.find_specs(workflow)

    # Workers.

    def living(self) -> list[Member]:
        """Return the workers that are alive, in order of creation."""
        return [member for member in self.members if member.is_alive]

    def start_member(self, seat: Seat) -> Member:
        """Start a new worker.

        Args:
            seat: the place that it takes.
        """
        member = Member(self, f"worker-{len(self.members) + 1}", seat, self.fail)
        self.members.append(member)
        member.process.on_kill(partial(self._note_end, member))
        member.start()
        self.log.note(member.name, "started", f"seat {seat.number} of layout {self.layout}")
        return member

    def fill_seats(self) -> None:
        """Start a worker on each seat that has none."""
        for seat in self.seats:
            if not self.find_working(seat):
                self.start_member(seat)

    def find_working(self, seat: Seat) -> list[Member]:
        """Return the workers of a seat that are alive and not about to stop."""
        return [member for member in self.living() if member.seat is seat and not member.is_stopping]

    def _note_end(self, member: Member) -> None:
        self.watch.note_end(member.name, "stopped" if member.has_exited else "killed")
        self.note_change()

    def note_stall(self, workflow_id: str, fault: InfiniticError) -> None:
        """An instance has stalled at a worker: who waits for it is told why."""
        self._stalled[workflow_id] = fault
        self.client.give_up(workflow_id, fault)

    def note_change(self) -> None:
        """Something has become of a worker: look again at what is waited for."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait_until(self, condition: Callable[[], bool]) -> None:
        """Wait until something is true of the workers.

        Args:
            condition: looked at after each call of `note_change`.
        """
        while not condition():
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    # Life.

    async def open(self) -> None:
        self._block = asyncio.current_task()
        self.errors.attach()
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        loop.make_repeatable(self.choices)
        loop.adopt_workflow = self._graveyard.adopt
        self._context = copy_context()
        await self.client.start()
        self.fill_seats()
        self._is_open = True
        await self.wait_until(lambda: all(member.is_ready for member in self.living()))
        self.nemesis.begin()

    async def run_until_idle(self) -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        ends = loop.time() + LONGEST_IDLE_WAIT
        await loop.wait_idle()
        while is_busy(self.broker) and loop.time() < ends:
            await asyncio.sleep(0.02)
            await loop.wait_idle()

    async def settle(self) -> None:
        await self.nemesis.heal()
        await self.wait_until(lambda: all(member.is_ready for member in self.living()))
        await Draining(self).run()
        await self._check_rest()
        if self.plan.has("late-messages"):
            await Afterlife(self).run()
            await self._check_rest()

    async def _check_rest(self) -> None:
        """Check what must hold when all work is done."""
        await self.invariants.check_healed(
            self.storage,
            workers=[member.worker for member in self.living()],
            services=self.catalog.services,
            log=self.errors,
            faults=self.plan.rates,
        )

    async def close(self, error: BaseException | None) -> None:
        self.nemesis.end()
        self.errors.detach()
        self.watch.observers.clear()
        failure = self.failure
        if error is None and failure is None:
            await self._stop_all()
        for member in self.living():
            member.process.kill()
        self._graveyard.close_dead()
        with suppress(InfiniticError):
            await self.client.close()
        await self.transport.close()
        await self.storage.close()
        failure = failure or self.failure
        if failure is not None:
            if isinstance(error, asyncio.CancelledError) and self._block is not None:
                self._block.uncancel()
            raise failure from None

    async def _stop_all(self) -> None:
        for member in self.living():
            member.stop()
        await self.wait_until(lambda: not self.living())

    def _end_observing(self, error: Exception) -> None:
        """An observer objects: end the run. After that, nobody is told anything."""
        self.watch.observers.clear()
        self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End the run because of an error. The first one counts.

        Args:
            error: it is raised at the end of the block of the simulation.
        """
        if self.failure is not None:
            return
        self.failure = error
        self.log.note("simulation", "failed", f"{type(error).__name__}: {error}")
        self.nemesis.end()
        if self._is_open and self._block is not None:
            asyncio.get_running_loop().call_soon(self._give_up, self._block, context=self._context)

    def _give_up(self, block: asyncio.Task[Any]) -> None:
        for member in self.living():
            member.process.kill()
        block.cancel()
