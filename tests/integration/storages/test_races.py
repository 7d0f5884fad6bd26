"""Of concurrent changes with one expected version exactly one is written."""

from __future__ import annotations

import asyncio

import pytest

from infinitic.storage import Change, Lost, Segment, StateKey, Stored, Written
from tests.integration.storages.databases import Place


@pytest.mark.parametrize("expected", [None, 1])
def test_of_many_racers_one_wins(shared: Place, name: str, expected: int | None) -> None:
    async def run() -> None:
        async with shared.storage() as one, shared.storage() as two:
            await one.prepare()
            for turn in range(5):
                keys = [StateKey(name, f"{expected}-{turn}-{each}") for each in range(3)]
                if expected:
                    await one.states.commit([Change(key, None, 1, b"", 1.0) for key in keys])
                racers = [
                    (one, two)[index % 2].states.commit(
                        [
                            Change(key, expected, 10 + index, b"%d" % index, 1.0, Segment(1, b"%d" % index), ("mark",))
                            for key in (keys if index % 3 else keys[::-1])
                        ]
                    )
                    for index in range(12)
                ]
                results = await asyncio.gather(*racers)
                wins: dict[StateKey, int] = {}
                for index, outcomes in enumerate(results):
                    for key, outcome in zip(keys if index % 3 else keys[::-1], outcomes, strict=True):
                        if isinstance(outcome, Written):
                            assert key not in wins
                            wins[key] = outcome.version
                        else:
                            assert isinstance(outcome, Lost)
                assert set(wins) == set(keys)
                for key, stored in (await two.states.load(keys)).items():
                    assert stored == Stored(wins[key], b"%d" % (wins[key] - 10), 1, False)
                    assert await one.states.history(key) == [Segment(1, stored.head)]

    asyncio.run(run())
