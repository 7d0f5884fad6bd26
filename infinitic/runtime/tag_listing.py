"""Lists the running instances that have a tag, from the storage. It needs no worker."""

from __future__ import annotations

from infinitic.engines.workflow.transition import choose_flag
from infinitic.runtime.history import decode_head
from infinitic.storage import Entry, Found, Page, StateKey, Storage, TagKey, TagKind
from infinitic.storage.integrity import ensure_checked


async def find_tagged(storage: Storage, name: str, tag: str, *, limit: int = 100, cursor: str | None = None) -> Page:
    """Find a page of instances that have a tag, in the order of the bytes of their ids.

    An instance that is about to start, or has just closed, may be missing.

    Args:
        storage: the database.
        name: the name of the workflow.
        tag: the tag.
        limit: how many instances at most.
        cursor: `Page.cursor` of the page before; None begins.

    Raises:
        InvalidArgument: an argument is out of range.
        DamagedState: the head of an instance cannot be read.
        NewerSchema: a newer release has written it.
    """
    checked = ensure_checked(storage)
    ids = await checked.tags.members(TagKey(TagKind.WORKFLOW, name, tag), after=cursor or "", limit=limit)
    keys = [StateKey(name, each) for each in ids]
    stored = await checked.states.load(keys)
    found: list[Found] = []
    for key in keys:
        if key in stored:
            head = decode_head(key, stored[key])
            flag = choose_flag(head)
            found.append(
                Found(key, Entry(head.status, head.started_at, head.version, head.closed_at, head.armed, flag))
            )
    return Page(found, ids[-1] if len(ids) == limit else None)
