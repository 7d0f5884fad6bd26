"""Lists the running instances of a tag or custom id, from the storage. It needs no worker."""

from __future__ import annotations

from infinitic.definitions.tags import check_custom_id, check_tag
from infinitic.engines.workflow.transition import choose_flag
from infinitic.ids import check_name
from infinitic.runtime.history import decode_head
from infinitic.storage import Entry, Found, Page, StateKey, Storage, TagKey, TagKind
from infinitic.storage.integrity import ensure_checked


def make_tagged_key(name: str, tag: str | None, custom_id: str | None) -> TagKey:
    """Make the key of the tag or the custom id of a workflow, whichever is given.

    Raises:
        UsageError: it cannot be one, or the name cannot be that of a workflow.
    """
    check_name("The name of a workflow", name)
    if tag is not None:
        return TagKey(TagKind.WORKFLOW, name, check_tag(tag))
    return TagKey(TagKind.CUSTOM_ID, name, check_custom_id(str(custom_id)))


async def find_tagged(storage: Storage, key: TagKey, *, limit: int = 100, cursor: str | None = None) -> Page:
    """Find a page of instances that have a tag, in the order of the bytes of their ids.

    An instance that is about to start, or has just closed, may be missing.

    Args:
        storage: the database.
        key: the tag or custom id, of which workflow.
        limit: how many instances at most.
        cursor: `Page.cursor` of the page before; None begins.

    Raises:
        InvalidArgument: an argument is out of range.
        DamagedState: the head of an instance cannot be read.
        NewerSchema: a newer release has written it.
    """
    checked = ensure_checked(storage)
    ids = await checked.tags.members(key, after=cursor or "", limit=limit)
    instances = [StateKey(key.name, each) for each in ids]
    stored = await checked.states.load(instances)
    found: list[Found] = []
    for instance in instances:
        if instance in stored:
            head = decode_head(instance, stored[instance])
            flag = choose_flag(head)
            found.append(
                Found(instance, Entry(head.status, head.started_at, head.version, head.closed_at, head.armed, flag))
            )
    return Page(found, ids[-1] if len(ids) == limit else None)
