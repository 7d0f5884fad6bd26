"""A child that is asked for again waits until the one before has ended.

A failure has cancelled the one before, and an operator has undone that failure. Until the clean-up
of the one before is over, it has the custom id. If the new child attached to it, its parent would
be told that it was cancelled.
"""

from __future__ import annotations

from infinitic import ids, topics
from infinitic.messages.tags import StartUnique
from infinitic.storage import TagKey, TagStorage
from infinitic.transport import Message, Outgoing

LATER = "infinitic-later"
"""The header that counts how often a start has waited."""

LATER_SECONDS = 0.5
"""Seconds to wait the first time; then twice as long, and so on."""

LONGEST_SECONDS = 5.0
"""It is no longer than this."""

MOST_WAITS = 60
"""How often it waits. That is about five minutes, and less than what is for the child waits for it.

Then it attaches to the one before.
"""


async def wait_for_older_child(
    storage: TagStorage, key: TagKey, message: Message, start: StartUnique, now: float
) -> Outgoing | None:
    """Have a start come again later if an older child of the same request has the custom id.

    Args:
        storage: where the holders are.
        key: the custom id.
        message: the message with the start.
        start: the start.
        now: seconds since the Unix epoch.

    Returns:
        None if it need not wait.
    """
    to = start.reply_to
    if to is None or not to.workflow:
        return None
    run, position, retry_sequence = to.place
    if not retry_sequence:
        return None
    known = message.headers.get(LATER, "0")
    waited = int(known) if known.isdecimal() and len(known) < 3 else 0
    older = {ids.remote_id(to.client, run, position, each) for each in range(retry_sequence)}
    if waited >= MOST_WAITS or older.isdisjoint(await storage.members(key, limit=1)):
        return None
    headers = {**message.headers, LATER: str(waited + 1)}
    later = now + min(LATER_SECONDS * 2.0**waited, LONGEST_SECONDS)
    return Outgoing(topics.workflow_tag(key.name), Message(message.id, message.key, message.body, headers, later))
