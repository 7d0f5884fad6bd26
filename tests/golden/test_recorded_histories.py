"""Histories that tests of earlier releases have recorded can still be replayed.

The file is written by `record_histories`, as in the first test.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from infinitic import NonDeterminismError, workflow
from infinitic_testing.simulation import Simulation
from tests.golden.recorded_trip import Flights, RecordedTrip

FILES = Path(__file__).parent / "histories"
ROOT = Path(__file__).parents[2]


def answer(city: str, *, window: bool = False) -> str:
    if city == "nowhere":
        raise ConnectionError("no network")
    return f"{city}, {'window' if window else 'aisle'}"


async def test_what_is_recorded_today_is_what_is_kept(sim: Simulation, tmp_path: Path) -> None:
    """The same test gives the same file, line by line: ids and times are the same in each run."""
    flights = sim.mock(Flights)
    flights.book.raises(ConnectionError("once")).runs(answer)
    flights.on(Flights.wait).runs(lambda: sim.sleep(1000))
    sim.add_workflow(RecordedTrip)
    handle = await sim.client.dispatch(sim.client.new_workflow(RecordedTrip).book, "Paris")
    await sim.sleep(5)
    trip = sim.client.get_workflow_by_id(RecordedTrip, handle.workflow_id)
    assert await trip.note("by hand") == 1
    await trip.paid.send(120)
    assert (await handle.result())[:3] == ["by hand", "Paris, window", "3"]
    [written] = sim.record_histories(tmp_path, test="trip", root=ROOT)
    kept = FILES / "RecordedTrip.json"
    assert remove_release(written.read_text(encoding="utf-8")) == remove_release(kept.read_text(encoding="utf-8"))


def remove_release(text: str) -> str:
    return re.sub(r'"release": "[^"]*"', "", text)


def test_what_is_kept_can_be_replayed(sim: Simulation) -> None:
    sim.add_workflow(RecordedTrip)
    """Also the one that was recorded before events had times, workers and senders."""
    assert [history.workflow for history in sim.replay(FILES)] == ["RecordedTrip", "RecordedTrip"]


@workflow(name="RecordedTrip")
class ChangedTrip(RecordedTrip):
    async def book(self, city: str) -> list[str]:
        self.notes.append(await self.flights.book(city, window=True))
        return [*self.notes, await self.flights.book("Rome")]


def test_code_that_differs_is_found(sim: Simulation) -> None:
    sim.add_workflow(ChangedTrip)
    pattern = r"the history holds inline count_to, asked for at tests/golden/recorded_trip.py:36 in RecordedTrip.book"
    with pytest.raises(NonDeterminismError, match=pattern):
        sim.replay(FILES)
