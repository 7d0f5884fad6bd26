"""A whole system in one test: broker, storage, worker and client, in virtual time.

The worker runs the same engines as in production. Two simulations share nothing.

In pytest, use the fixture `sim` of `infinitic_testing.plugin`. It makes and closes a `Simulation`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import infinitic
from infinitic.client.client import Client
from infinitic.client.handles import find_instance
from infinitic.clock import Clock, to_datetime, to_seconds
from infinitic.codec.payloads import PayloadCodec
from infinitic.definitions.retries import RetryPolicy
from infinitic.definitions.workflows import Workflow
from infinitic.errors import UsageError
from infinitic.middleware.base import BaseMiddleware
from infinitic.runtime.memory_bounds import DEFAULT_CACHE_SIZE
from infinitic.storage import StateKey, Storage
from infinitic.worker.listeners import DEFAULT_LISTENER, Listener
from infinitic.worker.worker import Worker
from infinitic_testing import determinism
from infinitic_testing.choices import Choices, Key
from infinitic_testing.cluster.forced_local import check_local
from infinitic_testing.cluster.single import SingleWorker
from infinitic_testing.cluster.system import System
from infinitic_testing.doubles import ServiceDouble, implement_double
from infinitic_testing.explaining import explain_standstill
from infinitic_testing.faults.catalog import Faults
from infinitic_testing.faults.plan import FaultPlan
from infinitic_testing.faults.profiles import check_profile
from infinitic_testing.histories import RecordedHistory
from infinitic_testing.kept_instances import KeptInstances
from infinitic_testing.loop import VirtualLoop, run
from infinitic_testing.steps import Step
from infinitic_transports.memory import InMemoryTransport

if TYPE_CHECKING:
    from infinitic_testing.cluster.cluster import Cluster

T = TypeVar("T")

_SEEDS_TO_WATCH_CALLS = 8
"""With faults or a profile, one seed in so many looks at the calls of workflow code.

This costs much, and the calls of a workflow are much the same under all seeds.
"""


class Simulation:
    """A broker, a storage, a virtual clock, workers and a client. The fixture `sim` is one.

    Outside pytest::

        async def main() -> None:
            async with Simulation() as sim:
                sim.add_service(Flights)
                sim.add_workflow(Trip)
                assert await sim.client.new_workflow(Trip).book("Paris") == "AF1"

        Simulation.run(main())

    When the block ends without an error, each workflow is replayed from its history. If a replay
    differs, the block raises `NonDeterminismError`: see `check_replay`.

    With `faults` or another profile than "fifo", the simulation has several workers, each in a
    simulated process. Messages take time, their order is drawn from the seed, and faults happen.
    When the block ends, the faults end too. The simulation comes to rest, and is checked. The same
    seed makes the same run::

        async with Simulation(seed=17, faults="all") as sim:
            ...

    Attributes:
        options: the arguments of this simulation, by name.
        choices: draws all random choices.
        plan: the faults of this run.
        system: the workers, and all that they share.

    Args:
        seed: of all random choices. Without faults and profile, only retry policies draw random
            numbers.
        faults: what may go wrong: a `Faults`, or a text such as "all", "all,-pauses" or
            "duplicates,power-cuts".
        profile: how the broker behaves: "fifo", "seeded", "pulsar" or "one-database", see
            `PROFILES`. None: "seeded" or "pulsar" if there are faults, and else "fifo".
        cache_size: how many workflow instances stay in memory. With 0, each step replays the
            workflow from its history, as after a crash. None: 1000, or drawn for each worker if
            there are several.
        codec: encodes payloads, for instance encrypts them. One `PayloadCodec`, or a chain of
            them: the first one encodes first and decodes last.
        middleware: what stands around the calls of `client`, attempts of tasks and activations of
            workflows, outermost first. All workers share the objects.
        only: the choices that keep their drawn values, see `Choices`. None: all.
        local: "all": all tasks are local that can be; "some": it is drawn for each worker and task.
            None: those that are declared so. It needs several workers.

    Raises:
        UsageError: there is no fault or no profile of this name. Or the block is entered in a loop
            that is not a `VirtualLoop`, for instance under `asyncio.run`.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        faults: Faults | str | Iterable[str] = "none",
        profile: str | None = None,
        cache_size: int | None = None,
        codec: PayloadCodec | Sequence[PayloadCodec] | None = None,
        middleware: Sequence[BaseMiddleware] = (),
        only: Collection[Key] | None = None,
        local: str | None = None,
    ) -> None:
        allowed = Faults.parse(faults)
        self.choices = Choices(seed, only=only)
        kind = check_profile(profile) or ("fifo" if not allowed.names else self._draw_profile())
        self.options: dict[str, Any] = {
            "seed": seed,
            "faults": allowed,
            "profile": kind,
            "cache_size": cache_size,
            "codec": codec,
            "middleware": middleware,
            "local": check_local(local),
        }
        self.plan = FaultPlan(allowed, self.choices)
        self.is_plain = kind == "fifo" and not allowed.names
        """True if there is one worker, no latency, and no fault."""
        self.system: System
        if self.is_plain:
            size = DEFAULT_CACHE_SIZE if cache_size is None else cache_size
            self.system = SingleWorker(choices=self.choices, cache_size=size, codec=codec, middleware=middleware)
        else:
            # Imported here: plain simulations need nothing of it.
            from infinitic_testing.cluster.cluster import Cluster

            self.system = Cluster(
                choices=self.choices,
                plan=self.plan,
                profile=kind,
                cache_size=cache_size,
                codec=codec,
                middleware=middleware,
                local=local,
            )
        self._kept = KeptInstances(self.system.database, self.system.find_specs)

    def _draw_profile(self) -> str:
        return "pulsar" if self.choices.happens("profile", 0.4) else "seeded"

    @staticmethod
    def run(main: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on a fresh loop in virtual time, and return its result.

        Args:
            main: usually opens one simulation (see the example of the class).

        Raises:
            DeadlockError: nothing can run, no timer is left, and `main` still waits.
            LivelockError: code runs on and on, and time cannot move.
            UsageError: an event loop already runs in this thread.
        """
        return run(main)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if not isinstance(loop, VirtualLoop):
            raise UsageError("A simulation needs virtual time: use Simulation.run(main()) or the fixture `sim`")
        loop.on_deadlock = self._explain
        loop.is_internal = _belongs_to_engines
        if self.is_plain or self.options["seed"] % _SEEDS_TO_WATCH_CALLS == 0:
            loop.look_at_calls = determinism.check_call
        await self.system.open()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            await self._end(exc)
        except Exception as error:
            self._note_options(error)
            raise
        if isinstance(exc, Exception):
            self._note_options(exc)

    async def _end(self, exc: BaseException | None) -> None:
        try:
            if exc is None:
                await self.system.settle()
                await self.check_replay()
        except BaseException as error:
            exc = error
            raise
        finally:
            await self.system.close(exc)

    def _note_options(self, error: Exception) -> None:
        """Let an error say which run it happened in. A plain simulation is always the same run."""
        if not self.is_plain:
            fired = ", ".join(f"{name} {count}" for name, count in sorted(self.plan.fired.items())) or "none"
            error.add_note(f"In {self!r}. Faults that happened: {fired}")

    def __repr__(self) -> str:
        seed, faults, profile = self.options["seed"], str(self.options["faults"]), self.options["profile"]
        return f"Simulation({seed=!r}, {faults=!r}, {profile=!r})"

    @property
    def cluster(self) -> Cluster:
        """The workers, processes and network of a simulation with several workers.

        Raises:
            UsageError: this simulation has neither faults nor a profile, and so one worker.
        """
        if isinstance(self.system, SingleWorker):
            raise UsageError("This simulation has one worker: sim.cluster exists only with faults or a profile")
        return cast("Cluster", self.system)

    @property
    def worker(self) -> Worker:
        """The only worker. It hosts nothing at the start.

        Raises:
            UsageError: there are several workers, see `cluster`.
        """
        if not isinstance(self.system, SingleWorker):
            raise UsageError("This simulation has several workers: sim.worker exists only without faults and profile")
        return self.system.worker

    @property
    def clock(self) -> Clock:
        """The virtual clock."""
        return self.system.clock

    @property
    def transport(self) -> InMemoryTransport:
        """A connection to the broker of the simulation, without latency and faults."""
        return self.system.transport

    @property
    def storage(self) -> Storage:
        """A connection to the storage of the simulation, without latency and faults."""
        return self.system.storage

    @property
    def client(self) -> Client:
        """The client of the test. It has all that a client has in production."""
        return self.system.client

    @property
    def now(self) -> datetime:
        """The virtual time, in UTC. It begins at 2030-01-01T00:00:00Z."""
        return to_datetime(self.clock.now())

    async def sleep(self, duration: float | timedelta) -> None:
        """Let virtual time pass. It takes no real time. What becomes due meanwhile happens.

        Args:
            duration: seconds, or a timedelta.

        Example::

            handle = await sim.client.dispatch(sim.client.new_workflow(Trip).book, "Paris")
            await sim.sleep(timedelta(days=29))
        """
        await asyncio.sleep(to_seconds(duration))

    async def run_until_idle(self) -> None:
        """Wait until nothing can run any more at this instant. Time does not move.

        Use it to look at what happened so far: tasks have run and messages have arrived, unless
        they wait for a later time. To let time pass, use `sleep`.
        """
        await self.system.run_until_idle()

    def add_service(
        self,
        implementation: object,
        *,
        concurrency: int = 100,
        retry: RetryPolicy | None = None,
        attempt_timeout: float | timedelta | None = None,
        max_per_second: float | None = None,
        batch_max_messages: int | None = None,
        batch_max_seconds: float | timedelta | None = None,
        local: bool | None = None,
    ) -> None:
        """Host a real service, as `Worker.add_service` does. This may be done at any time.

        Unlike on a worker, a task that is a plain `def` runs on the event loop, not in a thread.

        Args:
            implementation: an instance, or a class or function that makes one without arguments.
            concurrency: how many of its tasks run at once.
            retry: a retry policy that wins over those of `@task` and `@service`.
            attempt_timeout: seconds, or a timedelta. It wins over `@task` and `@service`.
            max_per_second: how many attempts begin in a second at most, in each worker.
            batch_max_messages: how many tasks a batch has at most. It wins over those of `@batch`.
            batch_max_seconds: how long the first task of a batch waits for others: seconds, or a
                timedelta. It wins over those of `@batch`.
            local: as for `Worker.add_service`.

        Raises:
            RegistrationError: it is not a service, or a service of this name is hosted already.
        """
        self.system.add_service(
            implementation,
            concurrency=concurrency,
            retry=retry,
            attempt_timeout=attempt_timeout,
            max_per_second=max_per_second,
            batch_max_messages=batch_max_messages,
            batch_max_seconds=batch_max_seconds,
            local=local,
        )

    def add_workflow(
        self,
        *versions: type[Workflow] | Callable[[], Workflow],
        concurrency: int = 100,
        retention: float | timedelta | None = None,
    ) -> None:
        """Host a workflow, as `Worker.add_workflow` does. This may be done at any time.

        Args:
            versions: classes of one workflow, or functions that make an instance without
                arguments. One for each version.
            concurrency: how many instances are worked on at once.
            retention: how long a closed instance is kept: seconds, or a timedelta. It wins over
                `@workflow`.

        Raises:
            RegistrationError: the class cannot run as a workflow, or its name and version are
                hosted already.
        """
        self.system.add_workflow(versions, concurrency=concurrency, retention=retention)

    def add_event_listener(
        self,
        listener: Listener,
        *,
        services: Collection[str | type[Any]] | None = None,
        workflows: Collection[str | type[Workflow]] | None = None,
        max_events: int = 1000,
        max_seconds: float | timedelta = 1.0,
        name: str = DEFAULT_LISTENER,
        types: Collection[str] | None = None,
    ) -> None:
        """Host an event listener, as `Worker.add_event_listener` does. All workers publish events.

        Add it after the services and workflows that it listens to, and before they run. A plain
        `def` is called on the event loop.

        Args:
            listener: the function.
            services: the services to listen to. None: those of the simulation.
            workflows: the workflows to listen to. None: those of the simulation.
            max_events: how many events a call gets at most.
            max_seconds: how long an event waits for others, in virtual seconds (or timedelta).
            name: that of the listener.
            types: the types of events that it gets. None: all.

        Example::

            heard = []
            sim.add_event_listener(heard.extend)
            await sim.client.new_workflow(Trip).book("Paris")
            await sim.sleep(1)  # events wait a second for others
            assert heard[-1].get_type() == EventType.WORKFLOW_COMPLETED
        """
        self.system.add_event_listener(
            listener,
            services=services,
            workflows=workflows,
            max_events=max_events,
            max_seconds=max_seconds,
            name=name,
            types=types,
        )

    def mock(self, contract: type[Any]) -> ServiceDouble:
        """Host a double of a service, and return it, to say what it answers.

        The double has the names, signatures and retry policies of the contract. So a call that
        the real service cannot take fails here too, and a failed attempt is retried.

        Args:
            contract: the class with which the workflow calls `Workflow.new_service`.

        Raises:
            RegistrationError: it is not a service, or a service of this name is hosted already.

        Example::

            flights = sim.mock(Flights)
            flights.book.raises(ConnectionError).returns("AF1")
        """
        double = ServiceDouble(contract)
        self.system.add_service(implement_double(double))
        return double

    def steps(self, target: object) -> list[Step]:
        """List what an instance did: tasks, timers, signals and inline calls, in order.

        Args:
            target: a handle, or a stub of `get_workflow_by_id`.

        Raises:
            UsageError: it stands for no instance, or for one that never started.

        Example::

            assert [step.name for step in sim.steps(handle)] == ["Flights.book", "timer"]
        """
        return self._kept.list_steps(StateKey(*find_instance(target)))

    def describe_instances(self, instances: int = 20, steps: int = 20) -> list[str]:
        """Describe what the instances did, in lines for people. Failed tests show them.

        Args:
            instances: how many are described, the first ones.
            steps: how many steps of each, the last ones.
        """
        return self._kept.describe(instances, steps)

    def replay(self, path: str | Path) -> list[RecordedHistory]:
        """Replay recorded histories on the workflows that are hosted, and return the histories.

        ``pytest --infinitic-record DIR`` writes such histories.

        Args:
            path: a file, or a folder with files. All of them are replayed.

        Raises:
            NonDeterminismError: the code asks for something else than a history holds. The error
                shows both, with the source lines of then and now. A note lists the other files that
                differ.
            WorkflowCodeError: the code cannot be run.
            HistoryFileError: there is no history, it cannot be read, it has another format, or its
                workflow is not hosted.

        Example::

            def test_running_trips_survive_this_release(sim):
                sim.add_workflow(Trip)
                sim.replay("histories")
        """
        return self._kept.replay_files(Path(path))

    async def check_replay(self) -> None:
        """Replay each instance. Code that does not repeat its history raises.

        Instances whose retention is over are replayed, too. Each is replayed twice: in part, as
        before an eviction, and as a whole. Its arguments, times and results must be the same again.

        A simulation does this when it ends. Call it yourself to check at an earlier moment.
        Instances that stall, and those whose code is not hosted, are left out.

        Raises:
            NonDeterminismError: the code asked for something else than its history says. The
                error shows both, and your source line.
        """
        self._kept.check_all()

    def record_histories(self, folder: str | Path, *, test: str = "", root: str | Path = "") -> list[Path]:
        """Write the histories of all workflows that have ended, one file each, for `replay`.

        ``pytest --infinitic-record DIR`` does this at the end of each test.

        Args:
            folder: where the files go. Those of the same names are replaced.
            test: the name of the test, for the files.
            root: the folder in which source files are named by relative paths.

        Returns:
            The files, named by workflow: ``Trip.json``, ``Trip-2.json`` and so on.
        """
        return self._kept.record(Path(folder), test, Path(root))

    def _explain(self) -> str:
        system = self.system
        return explain_standstill(system.broker, system.storage, system.find_specs, system.stalled)


def _belongs_to_engines(task: asyncio.Task[Any]) -> bool:
    """True for the asyncio tasks of workers and clients: their waiting explains nothing."""
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and code.co_filename.startswith(_PACKAGES)


_PACKAGES = (str(Path(infinitic.__file__).parent), str(Path(__file__).parent))
