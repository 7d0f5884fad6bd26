"""Rules of tags: TAG-1, TAG-3 to TAG-8. Those of claims are in `storage_claims`."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import suppress
from typing import Any

import pytest

from infinitic.storage import MAX_LIMIT, InvalidArgument, StorageOutcomeUnknown, TagChange, TagKey, TagKind
from infinitic_testing.conformance.storage_bench import T0, StorageBench, StorageSuite, in_bench
from infinitic_testing.conformance.storage_races import MOMENTS

TAG = TagKey(TagKind.WORKFLOW, "Trip", "vip")
CUSTOM_ID = TagKey(TagKind.CUSTOM_ID, "Trip", "order-7")

LONG_NAME, LONG_ID = "é" * 127 + "x", "é" * 300
"""As long as they may be: 255 and 600 bytes of UTF-8."""

NAMES = ("a", "A", "a ", " a", "a\0", "\0a", "\0", "é", "e\u0301", "\uff41", "😀", "\uffff", "ß", "ss", "%", LONG_NAME)
"""Names that databases like to take for each other, and long ones."""


def make_add(id: str, version: int = 0, at: float = T0, key: TagKey = TAG, **fields: Any) -> TagChange:
    return TagChange(key, id, True, version, at, **fields)


def make_removal(id: str, version: int = 1, at: float = T0, key: TagKey = TAG, **fields: Any) -> TagChange:
    return TagChange(key, id, False, version, at, **fields)


async def list_members(bench: StorageBench, key: TagKey = TAG, limit: int = 1000, **options: Any) -> list[str]:
    """List all pages of a tag, on both connections in turn."""
    found: list[str] = []
    after = ""
    for turn in itertools.count():
        tags = bench.other_tags if turn % 2 else bench.tags
        page = await bench.within(tags.members(key, after=after, limit=limit, **options))
        assert len(page) <= limit, "a page is longer than the limit"
        assert not page or page[0].encode() > after.encode(), "a page begins before the end of the last one"
        found += page
        if len(page) < limit:
            break
        after = page[-1]
    return found


async def update(bench: StorageBench, *changes: TagChange) -> None:
    await bench.within(bench.tags.update(changes))


async def purge_tags(bench: StorageBench, now: float) -> int:
    """Purge until nothing more expires. Return how many members were removed."""
    total = 0
    while gone := await bench.within(bench.tags.purge(now)):
        total += gone
    return total


class TagRules(StorageSuite):
    @in_bench
    async def test_tag_1_any_order_of_changes_ends_the_same(self, bench: StorageBench) -> None:
        changes = [make_add("i", 0, T0), make_removal("i", 5, T0 + 5), make_add("i", 7, T0 + 7)]
        for number, order in enumerate(itertools.permutations(changes)):
            key = TagKey(TagKind.WORKFLOW, "Trip", f"order {number}")
            for each in order:
                await update(bench, _move(each, key))
            await _check_last_added(bench, key)
        for number, order in enumerate(itertools.permutations([*changes, changes[0]])):
            key = TagKey(TagKind.WORKFLOW, "Trip", f"together {number}")
            await update(bench, *(_move(each, key) for each in order))
            await _check_last_added(bench, key)

    @in_bench
    async def test_tag_1_a_late_change_brings_nobody_back(self, bench: StorageBench) -> None:
        await update(bench, make_removal("early", 1), make_add("twice", 3), make_removal("twice", 3))
        await update(bench, make_add("early", 0), make_add("twice", 3), make_add("twice", 2), make_add("late", 9))
        await update(bench, make_removal("late", 8))
        assert await list_members(bench) == ["late"]
        assert await bench.within(bench.other_tags.count(TAG)) == 1
        await update(bench, make_add("early", 2), make_add("twice", 4))
        assert await list_members(bench) == ["early", "late", "twice"]

    @in_bench
    async def test_tag_1_of_two_changes_with_one_version_the_removal_counts(self, bench: StorageBench) -> None:
        await update(bench, make_add("a", 4), make_removal("b", 4))
        await update(bench, make_removal("a", 4), make_add("b", 4))
        await update(bench, make_add("c", 4), make_removal("c", 4), make_removal("d", 4), make_add("d", 4))
        assert await list_members(bench) == []

    @in_bench
    async def test_tag_1_versions_of_64_bits_are_compared_as_numbers(self, bench: StorageBench) -> None:
        for number, (low, high) in enumerate([(9, 10), (2**53, 2**53 + 1), (2**63 - 2, 2**63 - 1), (0, 2**62)]):
            await update(bench, make_removal(f"{number}", high), make_add(f"{number}", low))
            assert await list_members(bench) == [], f"{low} and {high}"
            await update(bench, make_add(f"+{number}", high), make_removal(f"+{number}", low))
            assert await list_members(bench) == [f"+{number}"], f"{low} and {high}"
            await update(bench, make_removal(f"+{number}", high))

    @in_bench
    async def test_tag_1_updates_that_meet_all_end(self, bench: StorageBench) -> None:
        connections = [bench.tags, bench.other_tags, *[(await bench.connect()).tags for _ in range(2)]]
        rng = random.Random(5)
        ids = [f"{number:03}" for number in range(60)]
        batches: list[list[TagChange]] = []
        for version in range(12):
            make = make_add if version % 2 else make_removal
            batch = [make(id, version, T0 + version) for id in ids]
            rng.shuffle(batch)
            batches.append(batch)
        racers = [connections[number % 4].update(batch) for number, batch in enumerate(batches)]
        await bench.within(asyncio.gather(*racers))
        assert await list_members(bench, limit=17) == ids
        assert await list_members(bench, until=T0 + 10.75) == []

    @in_bench
    async def test_tag_1_a_cancelled_update_can_be_repeated(self, bench: StorageBench) -> None:
        for number, (turns, seconds) in enumerate(MOMENTS):
            key = TagKey(TagKind.WORKFLOW, "Trip", f"cancelled {number}")
            changes = [make_add(f"{each:03}", key=key) for each in range(100)]
            task = asyncio.ensure_future(bench.tags.update(changes))
            for _ in range(turns):
                await asyncio.sleep(0)
            if seconds:
                await asyncio.sleep(seconds)
            task.cancel()
            with suppress(asyncio.CancelledError, StorageOutcomeUnknown):
                await task
            await bench.within(bench.other_tags.update(changes))
            assert await list_members(bench, key) == [each.id for each in changes]
            await bench.within(bench.other_tags.update([make_removal(each.id, key=key) for each in changes]))
            assert await _count(bench, key) == 0

    @in_bench
    async def test_tag_3_who_was_added_later_is_not_reached(self, bench: StorageBench) -> None:
        await update(bench, *(make_add(f"{number}", at=T0 + number) for number in range(6)))
        assert await list_members(bench, until=T0 + 2.75) == ["0", "1", "2"]
        assert await list_members(bench, until=T0 + 3) == ["0", "1", "2", "3"]
        assert await list_members(bench, until=T0 - 0.25) == []
        assert await list_members(bench, until=T0 + 99, limit=2) == ["0", "1", "2", "3", "4", "5"]
        await update(bench, make_removal("1", 1, T0 + 50), make_removal("2", 1, T0 + 50))
        await update(bench, make_add("2", 2, T0 + 60))
        assert await list_members(bench, until=T0 + 55) == ["0", "3", "4", "5"], "who was added again is new"
        assert await list_members(bench, until=T0 + 60) == ["0", "2", "3", "4", "5"]

    @in_bench
    async def test_tag_3_pages_are_full_though_many_were_added_later(self, bench: StorageBench) -> None:
        await update(bench, *(make_add(f"{n:04}", at=T0 + (0 if n % 97 == 0 else 50)) for n in range(1000)))
        old = [f"{n:04}" for n in range(0, 1000, 97)]
        assert await bench.within(bench.tags.members(TAG, until=T0, limit=3)) == old[:3]
        assert await list_members(bench, until=T0, limit=4) == old

    @in_bench
    async def test_tag_4_pages_are_in_the_order_of_bytes(self, bench: StorageBench) -> None:
        rng = random.Random(3)
        ids = [*NAMES, *(f"{n:05}" for n in range(500)), LONG_ID, "A" * 600, "z\0\0", "z\0", "z", "\U0010ffff", "\x7f"]
        shuffled = rng.sample(ids, len(ids))
        for first in range(0, len(ids), 100):
            await update(bench, *(make_add(id) for id in shuffled[first : first + 100]))
        for limit in (7, 100, 1000):
            assert await list_members(bench, limit=limit) == sorted(ids, key=str.encode), f"pages of {limit}"
        assert await bench.within(bench.tags.members(TAG, after="z", limit=2)) == ["z\0", "z\0\0"]
        assert await bench.within(bench.tags.members(TAG, after="zz nobody", limit=1)) == ["\x7f"]

    @in_bench
    async def test_tag_4_pages_skip_and_repeat_nothing_that_stayed(self, bench: StorageBench) -> None:
        ids = [f"{number:03}" for number in range(60)]
        await update(bench, *(make_add(id) for id in ids))
        found: list[str] = []
        gone: set[str] = set()
        joined: set[str] = set()
        while page := await bench.within(bench.tags.members(TAG, after=found[-1] if found else "", limit=7)):
            assert not found or page[0] > found[-1], "repeated"
            found += page
            if len(joined) < 10:
                # The last one of the page goes, and one that is still to come. Others join, before
                # the place of the reader and behind it.
                leaving = {page[-1], *[id for id in ids if id > page[-1]][3:4]}
                joining = {f"{page[0]}+", f"{page[-1]}+"}
                removals = [make_removal(id, 1, T0 - bench.deduplication_window) for id in leaving]
                await update(bench, *removals, *map(make_add, joining))
                await purge_tags(bench, T0)
                gone |= leaving
                joined |= joining
        assert len(set(found)) == len(found), "repeated"
        assert found == sorted(found)
        assert gone.union(found) >= set(ids), "skipped"
        assert await list_members(bench) == sorted((set(ids) - gone) | joined)

    @in_bench
    async def test_tag_5_only_live_members_are_counted(self, bench: StorageBench) -> None:
        assert await _count(bench) == 0
        await update(bench, *(make_add(f"{number:04}") for number in range(1200)))
        await update(bench, *(make_add(f"{number:04}") for number in range(50)), make_add("0000", 1, T0 + 1))
        assert await _count(bench) == 1200
        await update(bench, *(make_removal(f"{number:04}", 2) for number in range(1100)), make_removal("nobody"))
        await update(bench, *(make_removal(f"{number:04}", 2) for number in range(1100)))
        assert await _count(bench) == 100 == len(await list_members(bench))
        await update(bench, make_add("0000", 3))
        assert await _count(bench) == 101
        await purge_tags(bench, T0 + bench.deduplication_window)
        assert await _count(bench) == 101 == len(await list_members(bench))
        await update(bench, *(make_removal(id, 9) for id in await list_members(bench)))
        assert await _count(bench) == 0

    @in_bench
    async def test_tag_6_removed_members_go_when_the_window_is_over(self, bench: StorageBench) -> None:
        window = bench.deduplication_window
        await update(bench, make_add("stays"), make_removal("goes", 5, T0 + 10), make_removal("later", 5, T0 + 20))
        assert await purge_tags(bench, T0 + 9.75 + window) == 0
        await update(bench, make_add("goes", 4))
        assert await list_members(bench) == ["stays"], "a removed member was forgotten too early"
        assert await purge_tags(bench, T0 + 10.5 + window) == 1
        assert await purge_tags(bench, T0 + 20.5 + window) == 1
        await update(bench, make_add("goes", 4), make_add("later", 4))
        assert await list_members(bench) == ["goes", "later", "stays"]
        assert await purge_tags(bench, T0 + 1e9) == 0, "a live member went"

    @in_bench
    async def test_tag_6_a_member_goes_at_the_expiry_that_it_was_given(self, bench: StorageBench) -> None:
        window = bench.deduplication_window
        await update(bench, make_add("a", expires_at=T0 + 10), make_removal("b", expires_at=T0 + 2 * window))
        assert await list_members(bench) == ["a"]
        assert await purge_tags(bench, T0 + 9.75) == 0
        assert await purge_tags(bench, T0 + 10) == 1
        assert await list_members(bench) == []
        assert await bench.within(bench.tags.count(TAG)) == 0
        assert await purge_tags(bench, T0 + window + 1) == 0, "it was removed, and is to stay longer"
        assert await purge_tags(bench, T0 + 2 * window) == 1

    @in_bench
    async def test_tag_6_purge_checks_expiry_again(self, bench: StorageBench) -> None:
        await update(bench, *(make_add(id, expires_at=T0 + 10) for id in ("later", "never", "old", "removed")))
        await update(bench, make_add("later", 1, expires_at=T0 + 20), make_add("never", 1), make_removal("removed"))
        await update(bench, make_add("old", 0, expires_at=T0 + 99))
        assert await purge_tags(bench, T0 + 10) == 1
        assert await list_members(bench) == ["later", "never"]
        assert await purge_tags(bench, T0 + 20) == 1
        await update(bench, make_add("removed", 0))
        assert await list_members(bench) == ["never"]

    @in_bench
    async def test_tag_6_purge_goes_in_bounded_steps_and_misses_nothing(self, bench: StorageBench) -> None:
        keys = [TagKey(kind, "Trip", f"{number}") for number in range(3) for kind in TagKind]
        at = T0 - bench.deduplication_window
        changes = [make_removal(f"{n:02}", 1, at - n / 8, key=key) for n in range(25) for key in keys]
        await update(bench, *changes)
        gone = [await bench.within(bench.tags.purge(T0, limit=50)) for _ in range(6)]
        assert gone == [50] * 4 + [25] + [0]
        await update(bench, *(make_removal(f"{number:02}", 1, at) for number in range(40)))
        purges = [each.purge(T0, limit=25) for each in (bench.tags, bench.other_tags) * 2]
        counted = sum(await bench.within(asyncio.gather(*purges)))
        assert counted + await purge_tags(bench, T0) == 40, "each is counted once"

    @in_bench
    async def test_tag_7_keys_are_exact(self, bench: StorageBench) -> None:
        keys = [TagKey(kind, "Trip", tag) for kind in (TagKind.WORKFLOW, TagKind.TASK) for tag in NAMES]
        keys += [TagKey(TagKind.WORKFLOW, name, "vip") for name in NAMES]
        # Their parts give the same text when they are put together.
        keys += [TagKey(TagKind.WORKFLOW, *parts) for parts in (("ab", "c"), ("a", "bc"), ("a:", "b"), ("a", ":b"))]
        await update(bench, *(make_add(f"of {number}", key=key) for number, key in enumerate(keys)))
        for number, key in enumerate(keys):
            assert await list_members(bench, key) == [f"of {number}"], key
            assert await bench.within(bench.other_tags.count(key)) == 1, key
        await update(bench, make_removal("of 0", key=keys[0]))
        assert [await bench.within(bench.tags.count(key)) for key in keys] == [0] + [1] * (len(keys) - 1)

    @in_bench
    async def test_tag_8_what_no_storage_can_take_is_an_error(self, bench: StorageBench) -> None:
        await update(bench, make_add("sound"))
        # Callers may not check types.
        texts: list[Any] = ["", "x" * 256, "é" * 128, "\ud800", 7]
        ids: list[Any] = ["", "x" * 601, "é" * 301, "\ud800", None]
        instants: list[Any] = [float("nan"), float("inf"), 10**400, "now"]
        nothing: Any = None
        no_kind: Any = "workflow"
        no_bool: Any = "no"
        keys = [TagKey(TagKind.WORKFLOW, text, "vip") for text in texts]
        keys += [TagKey(TagKind.WORKFLOW, "Trip", text) for text in texts]
        keys += [TagKey(no_kind, "Trip", "vip")]
        numbers: list[Any] = [-1, 2**63, 1.5, True]
        changes = [make_add("x", key=key) for key in keys]
        changes += [make_add(id) for id in ids]
        changes += [make_add("x", number) for number in numbers]
        changes += [make_add("x", at=at) for at in [*instants, nothing]]
        changes += [make_add("x", expires_at=at) for at in instants]
        changes += [TagChange(TAG, "x", no_bool, 1, T0), make_add("x", key=CUSTOM_ID)]
        for change in changes:
            with pytest.raises(InvalidArgument):
                await update(bench, make_add("a"), change, make_add("b"))
        for key in keys:
            with pytest.raises(InvalidArgument):
                await bench.within(bench.tags.members(key))
            with pytest.raises(InvalidArgument):
                await bench.within(bench.tags.count(key))
        options: list[dict[str, Any]] = [{"limit": limit} for limit in (0, -1, MAX_LIMIT + 1, 1.5)]
        options += [{"until": until} for until in instants]
        options += [{"after": after} for after in ids[1:]]
        for each in options:
            with pytest.raises(InvalidArgument):
                await bench.within(bench.tags.members(TAG, **each))
        for now, limit in [*((at, 1) for at in [*instants, nothing]), (T0, 0), (T0, MAX_LIMIT + 1)]:
            with pytest.raises(InvalidArgument):
                await bench.within(bench.tags.purge(now, limit))
        await update(bench)
        assert await list_members(bench) == ["sound"], "something was written, or the connection is broken"


async def _count(bench: StorageBench, key: TagKey = TAG) -> int:
    """Count on both connections, which agree."""
    counted = await bench.within(bench.tags.count(key))
    assert await bench.within(bench.other_tags.count(key)) == counted
    return counted


def _move(change: TagChange, key: TagKey) -> TagChange:
    return TagChange(key, change.id, change.live, change.version, change.at)


async def _check_last_added(bench: StorageBench, key: TagKey) -> None:
    """The member was added last at T0 + 7."""
    assert await list_members(bench, key) == ["i"]
    assert await list_members(bench, key, until=T0 + 6.75) == []
    assert await list_members(bench, key, until=T0 + 7) == ["i"]
