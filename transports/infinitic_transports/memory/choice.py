"""Who comes next, where the contract of a broker leaves it open."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

Choose = Callable[[str, int], int]
"""Decides what the contract leaves open: `choose(what, count)` returns an index below `count`.

`what` is one of:

- "message": the next message of a SHARED subscription
- "key": the next key that no consumer holds
- "held key": the next of the keys that the consumer holds already
- "consumer": the waiting consumer that is woken
- "delay": by how much a delayed message comes late, see `Broker.lateness`
- "attempts": 1 if the attempts of what a consumer leaves behind are counted from 1 again
- "order": 1 if the messages of a key that a consumer leaves behind come after those that wait; 2 if
  they also come in the reverse order

It is asked only if `count` is above 1. Index 0 is the oldest, or what a broker does that works
well. A broker without a `choose` takes index 0 every time. The last three are asked only by brokers
of special profiles, see `infinitic_transports.memory.profiles`.
"""


def pick(queue: deque[_T], choose: Choose | None, what: str) -> _T:
    """Remove and return the item of a queue that is chosen, by default the oldest.

    Args:
        queue: the candidates, oldest first; at least one.
        choose: see `Choose`; None takes the oldest.
        what: what is chosen, in the words of `Choose`.
    """
    if choose is None or len(queue) == 1:
        return queue.popleft()
    index = choose(what, len(queue))
    queue.rotate(-index)
    chosen = queue.popleft()
    queue.rotate(index)
    return chosen
