"""`find`: it reads the smallest sorted set that holds all matches, in bounded steps."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import nlargest
from typing import Any

import msgspec
from msgspec.structs import replace

from infinitic.storage import (
    DamagedState,
    Entry,
    Flag,
    Found,
    InvalidArgument,
    Page,
    Query,
    StateKey,
    WorkflowStatus,
    read_entry,
)
from infinitic_storages.redis import scripts
from infinitic_storages.redis.connections import Connections, Script
from infinitic_storages.redis.keys import decode_key, encode_key, encode_name

STEP = 500
"""Entries that one step reads at most."""

FEW = 5000
"""Up to so many overdue instances are read at once. If there are more, the running instances are
searched, newest first.
"""

_FIND = Script(scripts.FIND)
_COUNT = Script(scripts.COUNT)
_OVERDUE = Script(scripts.OVERDUE)
_decode = msgspec.msgpack.Decoder(Entry).decode
_decode_facts = msgspec.msgpack.Decoder(dict[str, Any]).decode
_FACTS = frozenset(Entry.__struct_fields__)

Position = tuple[float, str, str]


class Finder:
    """Answers queries about the keys with one prefix.

    Args:
        connections: to the server.
        prefix: what the keys begin with.
    """

    __slots__ = ("_connections", "_prefix")

    def __init__(self, connections: Connections, prefix: bytes) -> None:
        self._connections = connections
        self._prefix = prefix

    async def find(self, query: Query) -> Page:
        below = None if query.cursor is None else _parse_cursor(query.cursor)
        status = query.status
        if query.overdue_at is not None:
            if status not in (None, WorkflowStatus.RUNNING):
                return Page([], None)
            status = WorkflowStatus.RUNNING
        name = None if query.name is None else encode_name(query.name)
        if query.name is not None and name is None:
            return Page([], None)
        few = None if query.overdue_at is None else await self._overdue(query.overdue_at)
        if few is not None:
            matching = (
                each for each in few if query.matches(each.key, each.entry) and (below is None or _locate(each) < below)
            )
            best = nlargest(query.limit + 1, matching, key=_locate)
        else:
            best = await self._scan(query, _choose_index(name, status, query.flag), below)
        page = best[: query.limit]
        cursor = msgspec.json.encode(_locate(page[-1])).decode() if len(best) > len(page) else None
        return Page(page, cursor)

    async def count(self, query: Query) -> int:
        """Count the entries that match, but no further than the limit.

        That is one look if one index tells it, and otherwise page by page.
        """
        name = None if query.name is None else encode_name(query.name)
        if query.name is not None and name is None:
            return 0
        if not _looks_further(query) and (query.status is None or query.flag is None):
            after = "" if query.started_after is None else repr(float(query.started_after))
            before = "" if query.started_before is None else repr(float(query.started_before))
            index = _choose_index(name, query.status, query.flag)
            (counted,) = await self._connections.call(_COUNT, [(self._prefix, index, after, before)])
            return int(min(counted, query.limit))
        counted, cursor = 0, None
        while counted < query.limit:
            page = await self.find(replace(query, limit=min(STEP, query.limit - counted), cursor=cursor))
            counted += len(page.found)
            cursor = page.cursor
            if cursor is None:
                break
        return counted

    async def _overdue(self, before: float) -> list[Found] | None:
        (reply,) = await self._connections.call(_OVERDUE, [(self._prefix, repr(float(before)), str(FEW))])
        return None if reply is None else list(decode_found(reply))

    async def _scan(self, query: Query, index: bytes, below: Position | None) -> list[Found]:
        """Find one entry more than the limit, so that it is known whether there is more."""
        before = "" if query.started_before is None else repr(float(query.started_before))
        best: list[Found] = []
        while len(best) <= query.limit:
            step = STEP if _looks_further(query) else min(STEP, query.limit + 1 - len(best))
            place = ("", b"") if below is None else (repr(below[0]), encode_key(StateKey(below[1], below[2])) or b"")
            (reply,) = await self._connections.call(_FIND, [(self._prefix, index, str(step), before, *place)])
            rows = list(decode_found(reply))
            best += [row for row in rows if query.matches(row.key, row.entry)]
            if len(reply) < 2 * step or not rows or _is_over(rows[-1], query):
                break
            below = _locate(rows[-1])
        return best[: query.limit + 1]


def _looks_further(query: Query) -> bool:
    """True if a query has a condition that no sorted set tells."""
    return any(
        each is not None for each in (query.overdue_at, query.closed_after, query.closed_before, query.id_prefix)
    )


def _choose_index(name: bytes | None, status: WorkflowStatus | None, flag: Flag | None) -> bytes:
    """Choose the smallest sorted set that holds all entries that match."""
    if flag is not None:
        return b"f|" + flag.value.encode() if name is None else b"g|" + flag.value.encode() + b"|" + name
    if name is None:
        return b"started" if status is None else b"t|" + status.value.encode()
    return b"n|" + name if status is None else b"b|" + status.value.encode() + b"|" + name


def decode_found(reply: Sequence[bytes | None]) -> Iterator[Found]:
    """Decode what a script has found: keys and entries by turns.

    Raises:
        DamagedState: an entry cannot be read.
    """
    for member, entry in zip(reply[::2], reply[1::2], strict=True):
        if member is not None and entry is not None:
            key = decode_key(member)
            yield Found(key, _read_entry(key, entry))


def _read_entry(key: StateKey, data: bytes) -> Entry:
    try:
        return _decode(data)
    except msgspec.ValidationError:
        # A newer release may have written what this one does not know.
        try:
            return read_entry(**{name: value for name, value in _decode_facts(data).items() if name in _FACTS})
        except (msgspec.MsgspecError, TypeError) as error:
            raise DamagedState(key, "The entry", f"it cannot be decoded: {error}") from error


def _locate(found: Found) -> Position:
    return float(found.entry.started_at), found.key.name, found.key.id


def _is_over(found: Found, query: Query) -> bool:
    return query.started_after is not None and not found.entry.started_at > query.started_after


def _parse_cursor(cursor: str) -> Position:
    try:
        position: Position = msgspec.json.decode(cursor, type=Position)
    except msgspec.DecodeError as error:
        raise InvalidArgument(f"{cursor!r} is not a cursor of `find`") from error
    if encode_key(StateKey(position[1], position[2])) is None:
        raise InvalidArgument(f"{cursor!r} is not a cursor of `find`")
    return position
