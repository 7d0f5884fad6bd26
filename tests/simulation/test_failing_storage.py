"""A storage that fails blames no instance, and a damaged instance does not harm the others."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from infinitic import Workflow, topics
from infinitic.engines import state
from infinitic.errors import MissingDriverError, StorageError
from infinitic.storage import (
    Change,
    Outcome,
    Published,
    StateKey,
    StorageConfigurationError,
    StorageUnavailable,
    Stored,
)
from tests.simulation.cases import Case
from tests.simulation.damages import DamagedInstance
from tests.simulation.inbox import CASE, ENGINE, read_signals, send, start
from tests.simulation.invariants import read_instances
from tests.simulation.messages import encode_signal, take_dead_letters
from tests.simulation.observed import ObservedDatabase
from tests.simulation.world import World, host_all, run_scenario

SOUND = 5


class FailingDatabase(ObservedDatabase):
    """Raises an error that the test sets: at every call, or only for one instance."""

    everything: StorageError | None = None
    reading: str | None = None
    writing: str | None = None

    def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        self._check(self.reading, [key.id for key in keys])
        return super().load(keys)

    def commit(self, changes: Sequence[Change | Published]) -> list[Outcome]:
        self._check(self.writing, [change.key.id for change in changes])
        return super().commit(changes)

    def _check(self, broken: str | None, asked: Sequence[str]) -> None:
        if self.everything is not None:
            raise self.everything
        if broken in asked:
            raise StorageError(f"the head of {broken} cannot be decompressed")


def is_parked(world: World, key: str) -> bool:
    return state.decode(read_instances(world.database)[StateKey("Inbox", key)][0]).parked


@pytest.mark.parametrize("error", [StorageUnavailable, StorageConfigurationError, StorageError])
def test_what_fails_for_all_is_waited_out(error: type[StorageError]) -> None:
    """A password that was changed, a database that refuses: longer than the budget of a message."""
    database = FailingDatabase()

    async def scenario(world: World) -> None:
        keys = [await start(world, 9) for _ in range(SOUND)]
        database.everything = error("refused")
        for key in keys:
            await send(world, key, encode_signal(world, "a"))
        await asyncio.sleep(90.0)
        database.everything = None
        await asyncio.sleep(10.0)
        assert [read_signals(world, key) for key in keys] == [['"a"']] * SOUND
        assert not any(is_parked(world, key) for key in keys)
        assert await take_dead_letters(world, ENGINE) == []

    run_scenario(scenario, CASE, database=database)


def test_an_instance_that_cannot_be_read_is_parked_alone() -> None:
    database = FailingDatabase()

    async def scenario(world: World) -> None:
        broken, *sound = [await start(world, 9) for _ in range(1 + SOUND)]
        await world.stop()
        database.reading = broken
        for key in (broken, *sound):
            await send(world, key, encode_signal(world, "a"))
        world.host(CASE, host_all)
        await world.run_until_idle()
        database.reading = None  # for us to look
        assert [read_signals(world, key) for key in sound] == [['"a"']] * SOUND, "at once"
        database.reading = broken
        await asyncio.sleep(90.0)
        assert [letter.key for letter in await take_dead_letters(world, ENGINE)] == [broken]

    run_scenario(scenario, CASE, database=database, is_watched=False)


def test_an_instance_that_cannot_be_written_waits_alone() -> None:
    """Only `Refused` means that a change can never be written. Other errors may be temporary."""
    database = FailingDatabase()

    async def scenario(world: World) -> None:
        broken, *sound = [await start(world, 9) for _ in range(1 + SOUND)]
        database.writing = broken
        for key in (broken, *sound):
            await send(world, key, encode_signal(world, "a"))
        await world.run_until_idle()
        assert [read_signals(world, key) for key in sound] == [['"a"']] * SOUND, "at once"
        await asyncio.sleep(90.0)
        assert read_signals(world, broken) == []
        database.writing = None
        await asyncio.sleep(10.0)
        assert read_signals(world, broken) == ['"a"']
        assert await take_dead_letters(world, ENGINE) == []

    run_scenario(scenario, CASE, database=database)


def test_an_instance_whose_damage_cannot_be_shown_waits_alone() -> None:
    """It is in one batch with the others, at each try."""
    database = FailingDatabase()

    async def scenario(world: World) -> None:
        broken, *sound = [await start(world, 9) for _ in range(1 + SOUND)]
        await world.stop()
        DamagedInstance(database, StateKey("Inbox", broken), StateKey("Inbox", sound[0])).damage_outbox("it is gone")
        database.writing = broken
        for key in (broken, *sound):
            await send(world, key, encode_signal(world, "a"))
        world.host(CASE, host_all)
        await world.run_until_idle()
        assert [read_signals(world, key) for key in sound] == [['"a"']] * SOUND, "at once"
        await asyncio.sleep(90.0)
        assert read_signals(world, broken) == []
        assert await take_dead_letters(world, ENGINE) == []

    run_scenario(scenario, CASE, database=database)


class Broken(ObservedDatabase):
    """Raises an error that is no `StorageError`, at one instance."""

    broken: str | None = None
    error: Exception = RuntimeError("a fault")

    def load(self, keys: Sequence[StateKey]) -> dict[StateKey, Stored]:
        if self.broken in [key.id for key in keys]:
            raise self.error
        return super().load(keys)


@pytest.mark.parametrize("error", [RuntimeError("a fault"), MissingDriverError("zstd", "zstd", "zstandard")])
def test_an_instance_at_which_an_adapter_breaks_harms_no_other(error: Exception) -> None:
    """If only a driver is missing, it waits."""
    database = Broken()

    async def scenario(world: World) -> None:
        broken, *sound = [await start(world, 9) for _ in range(1 + SOUND)]
        await world.stop()
        database.broken, database.error = broken, error
        for text in ("a", "b"):
            for key in (broken, *sound):
                await send(world, key, encode_signal(world, text))
        world.host(CASE, host_all)
        await asyncio.sleep(90.0)
        database.broken = None
        assert [read_signals(world, key) for key in sound] == [['"a"', '"b"']] * SOUND
        await asyncio.sleep(40.0)
        waits = isinstance(error, MissingDriverError)
        assert read_signals(world, broken) == (['"a"', '"b"'] if waits else [])
        assert [letter.key for letter in await take_dead_letters(world, ENGINE)] == ([] if waits else [broken, broken])

    run_scenario(scenario, CASE, database=database, is_watched=False)


class Stuck(ObservedDatabase):
    """Cannot remove what has expired."""

    def purge(self, now: float, limit: int = 1000) -> int:
        raise StorageError("one row cannot be removed")


class Sleeper(Workflow):
    async def sleep(self) -> str:
        await asyncio.sleep(600.0)
        return "awake"


def test_a_lost_wake_is_found_though_what_has_expired_cannot_be_removed() -> None:
    async def scenario(world: World) -> None:
        handle = await world.client.dispatch(world.client.new_workflow(Sleeper).sleep)
        await world.run_until_idle()
        world.broker.remove(topics.workflow_engine("Sleeper"))
        await asyncio.sleep(2 * 3600.0)
        assert await handle.result(timeout=60.0) == "awake"

    run_scenario(scenario, Case("sleeper", (Sleeper,), lambda client: asyncio.sleep(0), ()), database=Stuck())
