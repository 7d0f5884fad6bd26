"""The newest attempts of tasks behave as a dictionary by position does."""

from __future__ import annotations

from hypothesis import given, strategies as st

from infinitic.engines import retries
from infinitic.engines.retries import Retries
from infinitic.engines.state import Retry

CHANGES = st.lists(st.tuples(st.integers(0, 12), st.none() | st.integers(1, 9), st.booleans()), max_size=30)


@given(CHANGES)
def test_attempts_are_those_of_a_dictionary(changes: list[tuple[int, int | None, bool]]) -> None:
    kept: Retries = ()
    model: dict[int, Retry] = {}
    for number, (position, due, is_removed) in enumerate(changes):
        if is_removed:
            after = retries.remove(kept, position)
            assert (after is kept) == (position not in model)
            model.pop(position, None)
        else:
            model[position] = Retry(position, 1, 2, 0, number, due)
            after = retries.put(kept, model[position])
        kept = after
        assert kept == tuple(model[each] for each in sorted(model))
    some = {0, 3, 7}
    assert retries.remove_all(kept, some) == tuple(each for each in kept if each.position not in some)
    assert retries.remove_all(kept, ()) is kept
    for position in range(-1, 14):
        assert retries.find(kept, position) == model.get(position)
    waiting = sorted(retry.due for retry in kept if retry.due is not None)
    assert retries.find_next_due(kept) == (waiting[0] if waiting else None)
    left, sent = retries.take_due(kept, 5.0)
    waits = [each for each in kept if each.due is not None and each.due <= 5.0]
    assert [each.position for each in sent] == [each.position for each in waits]
    assert all(each.due is None and retries.find(left, each.position) == each for each in sent)
    assert [each for each in left if each not in sent] == [each for each in kept if each not in waits]
    assert (left is kept) == (not waits)
