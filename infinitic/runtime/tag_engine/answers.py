"""Tells clients which instances have a tag."""

from __future__ import annotations

from infinitic import topics
from infinitic.limits import compute_value_limit
from infinitic.messages import client
from infinitic.messages.tags import GetIds
from infinitic.storage import TagKey, TagStorage
from infinitic.transport import Message, Outgoing

PAGE = 1000
"""How many ids an answer has at most."""

_LONGEST_ID = 6 * 255 + 3
"""Bytes that an id takes in JSON at most."""


async def answer_ids(storage: TagStorage, key: TagKey, message: GetIds, max_payload: int) -> Outgoing:
    """Make the answer to a question for ids.

    Args:
        storage: where the members are.
        key: the tag or custom id.
        message: the question.
        max_payload: bytes that a message may have.
    """
    fits = max(compute_value_limit(max_payload) // _LONGEST_ID, 1)
    limit = max(1, min(message.limit, PAGE, fits))
    found = await storage.members(key, after=message.after, limit=limit)
    to = message.reply_to
    answer = client.Ids(to.request, tuple(found), len(found) == limit)
    return Outgoing(topics.client(to.client), Message(to.request, None, client.encode(answer)))
