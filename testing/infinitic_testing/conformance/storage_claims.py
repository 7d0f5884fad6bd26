"""Rules of custom ids, TAG-2, and of random verbs on tags against a model, MODEL."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass

import pytest

from infinitic.storage import (
    Claim,
    InvalidArgument,
    StorageOutcomeUnknown,
    StorageUnavailable,
    TagChange,
    TagKey,
    TagKind,
    TagStorage,
)
from infinitic_testing.conformance.storage_bench import T0, StorageBench, StorageSuite, in_bench, require_crashes
from infinitic_testing.conformance.storage_races import MOMENTS
from infinitic_testing.conformance.storage_tags import (
    CUSTOM_ID,
    LONG_ID,
    LONG_NAME,
    NAMES,
    TAG,
    list_members,
    make_removal,
    purge_tags,
    update,
)

STEPS = 150


async def claim(bench: StorageBench, id: str, version: int = 0, at: float = T0, key: TagKey = CUSTOM_ID) -> Claim:
    return await bench.within(bench.tags.claim(key, id, version, at))


class ClaimRules(StorageSuite):
    @in_bench
    async def test_tag_2_of_many_racers_exactly_one_gets_the_custom_id(self, bench: StorageBench) -> None:
        connections = [bench.tags, bench.other_tags, *[(await bench.connect()).tags for _ in range(2)]]
        for turn in range(6):
            key = TagKey(TagKind.CUSTOM_ID, "Trip", f"{turn}")
            racers = [connections[n % 4].claim(key, f"racer {n}", 0, T0) for n in range(16)]
            claims = list(await bench.within(asyncio.gather(*racers)))
            (winner,) = [f"racer {n}" for n, each in enumerate(claims) if each.granted]
            assert {each.id for each in claims} == {winner}, "all are told the same id"
            assert await list_members(bench, key) == [winner]
            assert await bench.within(bench.tags.count(key)) == 1
            again = [await bench.within(connections[n % 4].claim(key, f"racer {n}", 0, T0 + 9)) for n in range(16)]
            assert again == claims, "a repeat is told something else"

    @in_bench
    async def test_tag_2_racers_meet_removals(self, bench: StorageBench) -> None:
        """The custom id goes from hand to hand. At no time there are two holders."""
        connections = [bench.tags, bench.other_tags, *[(await bench.connect()).tags for _ in range(2)]]
        for turn in range(12):
            racers = [connections[n % 4].claim(CUSTOM_ID, f"{turn}-{n}", 0, T0 + turn) for n in range(6)]
            holder = (await list_members(bench, CUSTOM_ID) or ["nobody"])[0]
            removal = connections[turn % 4].update([make_removal(holder, 1, T0 + turn, key=CUSTOM_ID)])
            claims, _ = await bench.within(asyncio.gather(asyncio.gather(*racers), removal))
            live = await list_members(bench, CUSTOM_ID)
            granted = [each.id for each in claims if each.granted]
            assert len(granted) <= 1
            assert live == granted
            assert {each.id for each in claims} <= {holder, *granted}
            if not granted:
                assert (await claim(bench, f"{turn}-last", 0, T0 + turn)).granted, "a removed holder holds on"

    @in_bench
    async def test_tag_2_a_custom_id_is_free_again_when_its_holder_was_removed(self, bench: StorageBench) -> None:
        assert await claim(bench, "a") == Claim("a", True)
        assert await claim(bench, "b") == Claim("a", False)
        await update(bench, make_removal("a", 1, T0 + 1, key=CUSTOM_ID))
        assert await claim(bench, "c", at=T0 + 2) == Claim("c", True)
        assert await claim(bench, "a", at=T0 + 3) == Claim("a", False), "a late repeat of who has held it"
        assert await claim(bench, "b", at=T0 + 3) == Claim("a", False), "a late repeat of who has attached"
        assert await claim(bench, "c", at=T0 + 3) == Claim("c", True)
        assert await claim(bench, "d", at=T0 + 3) == Claim("c", False)
        assert await list_members(bench, CUSTOM_ID) == ["c"]
        assert await list_members(bench, CUSTOM_ID, until=T0 + 1.75) == []

    @in_bench
    async def test_tag_2_who_was_removed_before_its_claim_gets_nothing(self, bench: StorageBench) -> None:
        await update(bench, make_removal("a", 1, key=CUSTOM_ID))
        assert await claim(bench, "a") == Claim("a", False)
        assert await list_members(bench, CUSTOM_ID) == []
        assert await claim(bench, "b") == Claim("b", True)

    @in_bench
    async def test_tag_2_a_claim_with_a_version_remembers_no_refusal(self, bench: StorageBench) -> None:
        assert await claim(bench, "a") == Claim("a", True)
        await update(bench, make_removal("a", 1, key=CUSTOM_ID))
        assert await claim(bench, "b") == Claim("b", True)
        assert await claim(bench, "a", 2) == Claim("b", False)
        assert await claim(bench, "fresh", 2) == Claim("b", False)
        await update(bench, make_removal("b", 1, key=CUSTOM_ID))
        assert await claim(bench, "a", 2) == Claim("a", True), "the custom id was free"
        assert await claim(bench, "a", 0) == Claim("a", True)
        assert await claim(bench, "fresh", 2) == Claim("a", False)
        await update(bench, make_removal("a", 3, key=CUSTOM_ID))
        assert await claim(bench, "a", 2) == Claim("a", False)
        assert await claim(bench, "a", 4) == Claim("a", True)
        await update(bench, make_removal("a", 1, key=CUSTOM_ID), make_removal("a", 3, key=CUSTOM_ID))
        assert await list_members(bench, CUSTOM_ID) == ["a"]

    @in_bench
    async def test_tag_2_who_was_refused_once_may_claim_with_a_higher_version(self, bench: StorageBench) -> None:
        assert await claim(bench, "a") == Claim("a", True)
        assert await claim(bench, "b") == Claim("a", False)
        await update(bench, make_removal("a", 1, key=CUSTOM_ID))
        assert await claim(bench, "b", 2) == Claim("b", True)
        assert await claim(bench, "b", 2) == Claim("b", True)
        await update(bench, make_removal("b", 3, key=CUSTOM_ID))
        assert await claim(bench, "b", 0) == Claim("b", False)

    @in_bench
    async def test_tag_2_claims_are_forgotten_when_the_window_is_over(self, bench: StorageBench) -> None:
        window = bench.deduplication_window
        await claim(bench, "a", at=T0)
        await claim(bench, "b", at=T0 + 10)
        assert await purge_tags(bench, T0 + 9.75 + window) == 0
        assert await purge_tags(bench, T0 + 10.5 + window) == 1, "the refusal of b, and not the holder"
        assert await claim(bench, "c") == Claim("a", False)
        await update(bench, make_removal("a", 1, T0 + 2 * window, key=CUSTOM_ID))
        assert await claim(bench, "b", at=T0 + 2 * window) == Claim("b", True), "it is a new claim now"
        assert await purge_tags(bench, T0 + 1e9) == 2, "c and a"
        assert await claim(bench, "d", at=T0 + 1e9) == Claim("b", False)
        assert await list_members(bench, CUSTOM_ID) == ["b"]

    @in_bench
    async def test_tag_2_a_cancelled_claim_can_be_repeated(self, bench: StorageBench) -> None:
        for number, (turns, seconds) in enumerate(MOMENTS):
            key = TagKey(TagKind.CUSTOM_ID, "Trip", f"{number}")
            racers = [asyncio.ensure_future(each.claim(key, id, 0, T0)) for each, id in _list_racers(bench)]
            for _ in range(turns):
                await asyncio.sleep(0)
            if seconds:
                await asyncio.sleep(seconds)
            for each in racers:
                each.cancel()
            told = [each for each in await asyncio.gather(*racers, return_exceptions=True) if isinstance(each, Claim)]
            claims = [await bench.within(each.claim(key, id, 0, T0)) for each, id in _list_racers(bench)]
            assert sum(each.granted for each in claims) == 1
            assert {each.id for each in [*claims, *told]} == set(await list_members(bench, key))
            assert set(told) <= set(claims)

    @in_bench
    async def test_tag_2_what_a_claim_was_told_stays_true_when_the_server_crashes(self, bench: StorageBench) -> None:
        if not bench.capabilities.durable:
            pytest.skip("this storage says that it is not durable")
        backend = require_crashes(bench)
        keys = [TagKey(TagKind.CUSTOM_ID, "Trip", f"{number}") for number in range(200)]
        told: dict[tuple[TagKey, str], Claim] = {}
        enough = asyncio.Event()

        async def race(tags: TagStorage, id: str) -> None:
            for key in keys:
                with suppress(StorageUnavailable, StorageOutcomeUnknown):
                    told[key, id] = await bench.within(tags.claim(key, id, 0, T0))
                if len(told) >= 40:
                    enough.set()

        racers = [asyncio.ensure_future(race(tags, id)) for tags, id in _list_racers(bench)]
        await bench.within(enough.wait())
        await backend.crash()
        await backend.restart()
        await asyncio.gather(*racers)
        tags = (await bench.connect()).tags
        for key in keys:
            claims = {id: await bench.within(tags.claim(key, id, 0, T0)) for _, id in _list_racers(bench)}
            (holder,) = [id for id, each in claims.items() if each.granted]
            assert {each.id for each in claims.values()} == {holder}
            for id, each in claims.items():
                assert told.get((key, id), each) == each, key

    @in_bench
    async def test_tag_2_custom_ids_are_exact_and_apart(self, bench: StorageBench) -> None:
        keys = [TagKey(TagKind.CUSTOM_ID, "Trip", tag) for tag in NAMES]
        keys += [TagKey(TagKind.CUSTOM_ID, name, "order-7") for name in NAMES]
        for number, key in enumerate(keys):
            assert await claim(bench, f"{number}", key=key) == Claim(f"{number}", True), key
        for number, key in enumerate(keys):
            assert await claim(bench, "late", key=key) == Claim(f"{number}", False), key
        longest = TagKey(TagKind.CUSTOM_ID, LONG_NAME, LONG_NAME[::-1])
        assert await claim(bench, LONG_ID, 2**63 - 1, key=longest) == Claim(LONG_ID, True)
        assert await claim(bench, "\0", key=longest) == Claim(LONG_ID, False)

    @in_bench
    async def test_tag_8_what_nobody_can_claim_is_an_error(self, bench: StorageBench) -> None:
        for key, id, version, at in (
            (TAG, "a", 0, T0),
            (TagKey(TagKind.CUSTOM_ID, "", "x"), "a", 0, T0),
            (TagKey(TagKind.CUSTOM_ID, "Trip", "x" * 256), "a", 0, T0),
            (CUSTOM_ID, "", 0, T0),
            (CUSTOM_ID, "x" * 601, 0, T0),
            (CUSTOM_ID, "a", -1, T0),
            (CUSTOM_ID, "a", 2**63, T0),
            (CUSTOM_ID, "a", 0, float("nan")),
        ):
            with pytest.raises(InvalidArgument):
                await bench.within(bench.tags.claim(key, id, version, at))
        assert await claim(bench, "a") == Claim("a", True)

    def test_model_and_tags_agree(self) -> None:
        """Seeded sequences of every verb of tags. The seed is in the message of a failure."""
        for seed in self.seeds:

            async def play(seed: int = seed) -> None:
                bench = StorageBench(self, self.backend())
                async with bench.open():
                    await _play(bench, random.Random(seed), f"seed {seed}")

            self.run(play())


@dataclass(frozen=True)
class _TagRow:
    """What the model keeps of a member."""

    version: int
    live: bool
    at: float
    expires_at: float | None
    holder: str | None = None


class _TagModel:
    """What a storage of tags keeps, as one plain table. It is written from the port."""

    def __init__(self, window: float) -> None:
        self.window = window
        self.rows: dict[tuple[TagKey, str], _TagRow] = {}

    def update(self, change: TagChange) -> None:
        known = self.rows.get((change.key, change.id))
        if known is not None and (known.version, not known.live) >= (change.version, not change.live):
            return
        expires_at = change.expires_at
        if expires_at is None and not change.live:
            expires_at = change.at + self.window
        self.rows[change.key, change.id] = _TagRow(change.version, change.live, change.at, expires_at)

    def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        own = self.rows.get((key, id))
        if own is not None and own.version >= version:
            return Claim(own.holder or id, own.live)
        live = [member for (other, member), row in self.rows.items() if other == key and row.live and member != id]
        if live:
            if version == 0:
                self.rows[key, id] = _TagRow(0, False, at, at + self.window, live[0])
            return Claim(live[0], False)
        self.rows[key, id] = _TagRow(version, True, at, None)
        return Claim(id, True)

    def purge(self, now: float) -> int:
        gone = [member for member, row in self.rows.items() if row.expires_at is not None and row.expires_at <= now]
        for member in gone:
            del self.rows[member]
        return len(gone)

    def members(self, key: TagKey, until: float | None) -> list[str]:
        live = [
            id
            for (other, id), row in self.rows.items()
            if other == key and row.live and (until is None or row.at <= until)
        ]
        return sorted(live, key=str.encode)


_KEYS = [TagKey(kind, name, "vip") for kind in TagKind for name in ("Trip", "trip")]
_IDS = ("a", "A", "é", "b", "c\0")


async def _play(bench: StorageBench, rng: random.Random, seed: str) -> None:
    model = _TagModel(bench.deduplication_window)
    now = T0
    for step in range(STEPS):
        where = f"{seed}, step {step}"
        now += rng.choice((0.0, 0.25, 1.0, bench.deduplication_window / 4 if step % 5 == 0 else 2.0))
        bench.tags, bench.other_tags = rng.choice(((bench.tags, bench.other_tags), (bench.other_tags, bench.tags)))
        match rng.choice(("update",) * 4 + ("claim",) * 3 + ("members", "purge")):
            case "update":
                changes = [_draw_change(rng, now) for _ in range(rng.randint(1, 6))]
                await update(bench, *changes)
                for each in changes:
                    model.update(each)
            case "claim":
                key, id, version = rng.choice(_KEYS[2:4]), rng.choice(_IDS), rng.choice((0, 0, 0, 2, 4))
                assert _KEYS[2].kind is TagKind.CUSTOM_ID
                assert await claim(bench, id, version, now, key) == model.claim(key, id, version, now), where
            case "members":
                await _agree(bench, model, rng, where)
            case _:
                assert await purge_tags(bench, now) == model.purge(now), where
    await _agree(bench, model, rng, seed)


def _list_racers(bench: StorageBench) -> list[tuple[TagStorage, str]]:
    return [(bench.tags if number % 2 else bench.other_tags, f"racer {number}") for number in range(4)]


def _draw_change(rng: random.Random, now: float) -> TagChange:
    key = rng.choice(_KEYS)
    live = key.kind is not TagKind.CUSTOM_ID and rng.random() < 0.6
    expires_at = now + rng.choice((0.0, 2.0, 9.0)) if rng.random() < 0.2 else None
    return TagChange(key, rng.choice(_IDS), live, rng.randint(0, 6), now - rng.choice((0.0, 3.0)), expires_at)


async def _agree(bench: StorageBench, model: _TagModel, rng: random.Random, where: str) -> None:
    until = rng.choice((None, T0 + rng.randint(0, 99)))
    for key in _KEYS:
        found = await list_members(bench, key, rng.randint(1, 4), until=until)
        assert found == model.members(key, until), f"{where}: {key} until {until}"
        assert await bench.within(bench.tags.count(key)) == len(model.members(key, None)), f"{where}: {key}"
