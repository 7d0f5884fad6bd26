"""Tells clients which instances or tasks have a tag."""

from __future__ import annotations

from infinitic import topics
from infinitic.limits import compute_value_limit
from infinitic.messages import client
from infinitic.messages.tags import GetIds
from infinitic.messages.task_tags import LONGEST_TOKEN, GetTasks
from infinitic.storage import TagKey, TagStorage
from infinitic.transport import Message, Outgoing

PAGE = 1000
"""How many ids an answer has at most."""

_LONGEST_ID = 6 * 255 + 3
"""Bytes that an id takes in JSON at most."""

_LONGEST_TOKEN = 6 * LONGEST_TOKEN + 3
"""Bytes that the token of a task takes in JSON at most."""


async def answer_ids(storage: TagStorage, key: TagKey, message: GetIds, max_payload: int) -> Outgoing:
    """Make the answer to a question for ids.

    Args:
        storage: where the members are.
        key: the tag or custom id.
        message: the question.
        max_payload: bytes that a message may have.
    """
    found, more = await _read_page(storage, key, message, max_payload, _LONGEST_ID)
    to = message.reply_to
    answer = client.Ids(to.request, found, more)
    return Outgoing(topics.client(to.client), Message(to.request, None, client.encode(answer)))


async def answer_tasks(storage: TagStorage, key: TagKey, message: GetTasks, max_payload: int) -> Outgoing:
    """Make the answer to a question for tasks. Arguments are those of `answer_ids`."""
    found, more = await _read_page(storage, key, message, max_payload, _LONGEST_TOKEN)
    to = message.reply_to
    answer = client.Tasks(to.request, found, more)
    return Outgoing(topics.client(to.client), Message(to.request, None, client.encode(answer)))


async def _read_page(
    storage: TagStorage, key: TagKey, message: GetIds | GetTasks, max_payload: int, longest: int
) -> tuple[tuple[str, ...], bool]:
    """Read a page of members, and whether there may be more. Each takes `longest` bytes at most."""
    fits = max(compute_value_limit(max_payload) // longest, 1)
    limit = max(1, min(message.limit, PAGE, fits))
    found = await storage.members(key, after=message.after, limit=limit)
    return tuple(found), len(found) == limit
