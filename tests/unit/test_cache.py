"""The cache of instances counts their bytes correctly, whatever happens to them."""

from __future__ import annotations

from infinitic.runtime.state_engine.cached_instance import CachedInstance
from infinitic.runtime.state_engine.group_commit import GroupCommit
from infinitic.runtime.state_engine.instances import Instances
from infinitic.storage import StateKey
from infinitic_storages.memory import InMemoryStorage


def held(id: str, size: int) -> CachedInstance:
    made = CachedInstance(StateKey("Trip", id), None, 1, published=True)
    made.bytes = size
    return made


def make_cache(size: int, max_bytes: int) -> Instances:
    return Instances("Trip", size, max_bytes, GroupCommit(InMemoryStorage().states))


def test_the_bound_holds_for_what_was_discarded_while_it_was_kept() -> None:
    cache = make_cache(100, 1000)
    for number in range(20):
        first = held(str(number), 600)
        cache.keep(first)
        first.discard_live()
        assert cache.take(str(number)) is first
    cache.keep(held("a", 900))
    assert cache.evict() == []
    second = held("b", 200)
    cache.keep(second)
    assert [each.key.id for each in cache.evict()] == ["a"]
    assert cache.take("b") is second


def test_the_last_one_stays_however_large_it_is() -> None:
    """It would be replayed at each step otherwise."""
    cache = make_cache(100, 1000)
    for number in range(3):
        cache.keep(held(str(number), 5000))
    assert [each.key.id for each in cache.evict()] == ["0", "1"]
    assert len(cache) == 1


def test_none_stays_if_none_may() -> None:
    for cache in (make_cache(0, 1000), make_cache(100, 0)):
        cache.keep(held("a", 10))
        assert [each.key.id for each in cache.evict()] == ["a"]
