"""Random verbs against a model: MODEL. The model is written from the port, not from an adapter."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from infinitic.storage import (
    Change,
    Duplicate,
    Entry,
    Flag,
    Lost,
    Published,
    Query,
    Refused,
    Segment,
    StateKey,
    WorkflowStatus,
    Written,
)
from infinitic_testing.conformance.storage_bench import T0, StorageBench, StorageSuite

KEYS = [StateKey(name, id) for name in ("Trip", "trip") for id in ("1", "1 ", "é", "2")]
STEPS = 120


class _Model:
    """What a database holds, as plain tables.

    They are key → row, (key, sequence) → segment, and (key, deduplication id) → time.
    """

    def __init__(self, deduplication_window: float) -> None:
        self.deduplication_window = deduplication_window
        self.heads: dict[StateKey, tuple[int, bytes, int, bool, float | None]] = {}
        self.segments: dict[tuple[StateKey, int], Segment] = {}
        self.deduplication_ids: dict[tuple[StateKey, str], float] = {}
        self.entries: dict[StateKey, Entry] = {}
        self.remnants: dict[StateKey, tuple[int, float]] = {}

    def version(self, key: StateKey) -> int | None:
        if key in self.heads:
            return self.heads[key][0]
        return self.remnants[key][0] if key in self.remnants else None

    def commit(self, change: Change | Published) -> tuple[str, Any]:
        key = change.key
        current = self.version(key)
        if isinstance(change, Published):
            if key not in self.heads or current != change.version:
                return "Lost", current
            version, head, sequence, _, expires_at = self.heads[key]
            self.heads[key] = (version, head, sequence, True, expires_at)
            return "Written", version
        if key in self.remnants or current != change.expected:
            return "Lost", current
        if known := {id_ for id_ in change.deduplication_ids if (key, id_) in self.deduplication_ids}:
            return "Duplicate", known
        last = self.heads[key][2] if key in self.heads else 0
        if (current is not None and change.version <= current) or (
            change.segment and change.segment.sequence - 1 != last
        ):
            return "Refused", None
        if change.segment:
            last += 1
            self.segments[key, last] = change.segment
        self.heads[key] = (change.version, change.head, last, change.published, change.expires_at)
        self.deduplication_ids.update({(key, id_): change.at for id_ in change.deduplication_ids})
        if change.entry:
            self.entries[key] = change.entry
        return "Written", change.version

    def purge(self, now: float) -> int:
        """Of everything that has expired."""
        self.remnants = {key: each for key, each in self.remnants.items() if each[1] + self.deduplication_window > now}
        expired = {key: (row[0], row[4]) for key, row in self.heads.items() if row[4] is not None and row[4] <= now}
        for key, (version, at) in expired.items():
            assert at is not None
            del self.heads[key]
            self.entries.pop(key, None)
            self.segments = {place: each for place, each in self.segments.items() if place[0] != key}
            if at + self.deduplication_window > now:
                self.remnants[key] = (version, at)
        old = [id_ for id_, at in self.deduplication_ids.items() if at + self.deduplication_window <= now]
        for id_ in old:
            del self.deduplication_ids[id_]
        return len(expired) + len(old)


class ModelRules(StorageSuite):
    def test_model_and_storage_agree(self) -> None:
        """Seeded sequences of every verb. The seed is in the message of a failure."""
        for seed in self.seeds:

            async def play(seed: int = seed) -> None:
                bench = StorageBench(self, self.backend())
                async with bench.open():
                    await _play(bench, random.Random(seed), f"seed {seed}")

            self.run(play())


async def _play(bench: StorageBench, rng: random.Random, seed: str) -> None:
    model = _Model(bench.deduplication_window)
    now, version = T0, 0
    for step in range(STEPS):
        where = f"{seed}, step {step}"
        now += rng.choice((0.0, 0.25, 1.0, bench.deduplication_window / 4 if step % 5 == 0 else 2.0))
        bench.states, bench.other = rng.choice(((bench.states, bench.other), (bench.other, bench.states)))
        match rng.choice(("commit",) * 6 + ("load", "history", "find", "purge")):
            case "commit":
                version += rng.randint(1, 3)
                batch = [_draw_change(rng, model, key, version, now) for key in rng.sample(KEYS, rng.randint(1, 5))]
                outcomes = await bench.commit(*batch)
                assert _simplify(outcomes) == [model.commit(each) for each in batch], f"{where}: {batch}"
            case "load":
                await _agree_on_heads(bench, model, where)
            case "history":
                await _agree_on_history(bench, model, rng, where)
            case "find":
                await _agree_on_entries(bench, model, rng, where)
            case _:
                expected = model.purge(now)
                for _ in range(2):  # a remnant that is due at once goes in the next turn
                    expected -= await bench.purge_all(now)
                    await bench.purge(now)
                assert expected == 0, f"{where}: {expected} more should have gone, at {now}"
    await _agree_on_heads(bench, model, seed)
    await _agree_on_history(bench, model, rng, seed)
    await _agree_on_entries(bench, model, rng, seed)


def _draw_change(rng: random.Random, model: _Model, key: StateKey, version: int, now: float) -> Change | Published:
    """Mostly one that can be written."""
    current = model.version(key)
    if rng.random() < 0.15:
        return Published(key, rng.choice((current or 1, version)))
    last = model.heads[key][2] if key in model.heads else 0
    sequence = last + rng.choice((1,) * 12 + (0, 2))
    return Change(
        key,
        current if rng.random() < 0.85 else rng.choice((None, version, 1)),
        version if rng.random() < 0.95 else current or 1,
        rng.randbytes(rng.randint(0, 9)),
        now,
        segment=None if rng.random() < 0.3 else Segment(sequence, rng.randbytes(3), rng.choice((None, b"", b"out"))),
        deduplication_ids=tuple(rng.sample("abcdefghijABCDEFGHIJ", rng.choice((0, 0, 1, 2)))),
        published=rng.random() < 0.2,
        entry=None if rng.random() < 0.5 else _draw_entry(rng),
        expires_at=None if rng.random() < 0.7 else now + rng.choice((0.0, 2.0, 9.0)),
    )


def _draw_entry(rng: random.Random) -> Entry:
    wake = rng.choice((None, T0 + rng.randint(0, 9)))
    flag = rng.choice((None, None, *Flag))
    closed = rng.choice((None, T0 + rng.randint(0, 9)))
    return Entry(rng.choice(list(WorkflowStatus)), T0 + rng.randint(0, 9), rng.choice((None, 1)), closed, wake, flag)


def _simplify(outcomes: Sequence[Written | Lost | Duplicate | Refused]) -> list[tuple[str, Any]]:
    plain: list[tuple[str, Any]] = []
    for each in outcomes:
        match each:
            case Written(version):
                plain.append(("Written", version))
            case Lost(current):
                plain.append(("Lost", current))
            case Duplicate(deduplication_ids):
                plain.append(("Duplicate", set(deduplication_ids)))
            case Refused():
                plain.append(("Refused", None))
    return plain


async def _agree_on_heads(bench: StorageBench, model: _Model, where: str) -> None:
    loaded = await bench.within(bench.states.load(KEYS))
    found = {key: (each.version, each.head, each.sequence, each.published) for key, each in loaded.items()}
    assert found == {key: row[:4] for key, row in model.heads.items()}, where


async def _agree_on_history(bench: StorageBench, model: _Model, rng: random.Random, where: str) -> None:
    for key in KEYS:
        after, limit = rng.randint(0, 3), rng.randint(1, 5)
        segments = [each for place, each in sorted(model.segments.items(), key=lambda s: s[0][1]) if place[0] == key]
        assert await bench.history(key, outbox=True) == segments, f"{where}: {key}"
        assert await bench.history(key, after=after, limit=limit, outbox=True) == segments[after : after + limit], where
        chosen = [rng.randint(-1, 6) for _ in range(3)]
        bare = [Segment(each.sequence, each.events) for each in segments if each.sequence in chosen]
        assert await bench.history(key, sequences=chosen) == bare, where


async def _agree_on_entries(bench: StorageBench, model: _Model, rng: random.Random, where: str) -> None:
    name, status = rng.choice((None, None, "Trip")), rng.choice((*[None] * 8, *WorkflowStatus))
    flag = rng.choice((*[None] * 6, *Flag))
    overdue, after, before = (rng.choice((*[None] * 4, T0 + rng.randint(0, 9))) for _ in range(3))
    closed_after, closed_before = (rng.choice((*[None] * 4, T0 + rng.randint(0, 9))) for _ in range(2))
    prefix = None if name is None else rng.choice((None, None, "", "1", "1 ", "é", "3"))
    expected = {
        key: each
        for key, each in model.entries.items()
        if name in (None, key.name)
        and status in (None, each.status)
        and flag in (None, each.flag)
        and (prefix is None or key.id.startswith(prefix))
        and (closed_after is None or (each.closed_at is not None and each.closed_at > closed_after))
        and (closed_before is None or (each.closed_at is not None and each.closed_at < closed_before))
        and (after is None or each.started_at > after)
        and (before is None or each.started_at < before)
        and (overdue is None or (each.status == "running" and each.next_wake is not None and each.next_wake < overdue))
    }
    query: dict[str, Any] = {
        "name": name,
        "status": status,
        "overdue_at": overdue,
        "started_after": after,
        "started_before": before,
    }
    query |= {"flag": flag, "closed_after": closed_after, "closed_before": closed_before, "id_prefix": prefix}
    found = await bench.find_all(**query, limit=rng.randint(1, 5))
    assert {each.key: each.entry for each in found} == expected, f"{where}: {query}"
    assert len(found) == len(expected), f"{where}: repeated"
    assert await bench.within(bench.states.count(Query(**query))) == len(expected), f"{where}: {query}"
    starts = [each.entry.started_at for each in found]
    assert starts == sorted(starts, reverse=True), f"{where}: {query}"
