"""What an input led to: the common form of all answers of `take`."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from infinitic.engines.effects import Effect, Handling, Reply
from infinitic.engines.state import WorkflowHead
from infinitic.messages.events import Event


class Taken(msgspec.Struct, frozen=True, gc=False):
    """The head after an input, and what it caused.

    `events` go to the history and `outbox` to the outbox of the transition; `replies` are sent without being kept, as
    nothing changes by them. `mark` is the id by which this input is recognised when it comes again. `handling` is
    what becomes of an input that is not taken at all.
    """

    head: WorkflowHead | None
    events: tuple[Event, ...] = ()
    outbox: tuple[Effect, ...] = ()
    replies: tuple[Reply, ...] = ()
    mark: str | None = None
    handling: Handling | None = None


def stimulate(head: WorkflowHead, event: Event, *effects: Effect, mark: str | None = None, **changes: Any) -> Taken:
    """The head with one more stimulus that its code has to be handed."""
    pending = head.pending or head.sequence + 1
    return Taken(replace(head, pending=pending, **changes), (event,), effects, mark=mark)
