"""One attempt in the hands of a service executor, and the message that makes others do it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from infinitic.engines.workflow.render import Outgoing
from infinitic.messages import service
from infinitic.messages.control import Attempt
from infinitic.messages.service import ExecuteTask
from infinitic.transport import Delivery, Message

OUTBOX_BYTES = 16 * 1024 * 1024
"""Bytes of reports that wait to be published, before no more tasks are taken."""

CODEC_DELAY = 30.0
"""Seconds for which a task is put off whose arguments the payload codec cannot decode now."""
LEFT_SECONDS = 5.0
"""How long a message of a newer release waits until the next worker looks at it."""

FLUSH_BYTES = 4 * 1024 * 1024
"""Bytes of reports that are published together."""


class Outbound(NamedTuple):
    """A message to publish, and the deliveries that it stands for: to be acknowledged, and forgotten, after that."""

    message: Message
    deliveries: list[Delivery]


class Work(msgspec.Struct, eq=False):
    """An attempt in hand.

    Args:
        message: what has to be run.
        attempt: that of the message.
        deliveries: all that came of it so far; more may come until it is reported.
        carrier: the first of them as it was sent.
    """

    message: ExecuteTask
    attempt: Attempt
    deliveries: list[Delivery]
    carrier: Message
    report: Outgoing | None = None
    report_bytes: int = 0
    on_trial: bool = False

    def again(self, deliver_at: float | None = None, **changes: Any) -> Outbound:
        """Its message once more, with these fields changed; `deliver_at` in seconds since the Unix epoch."""
        carrier = self.carrier
        changed = {name: value for name, value in changes.items() if getattr(self.message, name) != value}
        body = service.encode(replace(self.message, **changed)) if changed else carrier.body
        return Outbound(Message(carrier.id, None, body, carrier.headers, deliver_at), self.deliveries)


def fitting(sizes: Iterable[int]) -> int:
    """How many of the first of these are published together: as far as their bytes are bounded, at least one."""
    count = total = 0
    for size in sizes:
        total += size
        if count and total > FLUSH_BYTES:
            break
        count += 1
    return count
