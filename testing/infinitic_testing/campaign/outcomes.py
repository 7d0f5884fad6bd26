"""The outcome of a run: what the function returned, and all that is stored at the end.

Both are shown and digested in the same way in every process, and by every version of Python.
"""

from __future__ import annotations

import pprint
import re
from hashlib import blake2b
from typing import cast

import msgspec
from msgspec.structs import replace

from infinitic.engines import state
from infinitic.errors import DecodingError
from infinitic.storage import DamagedState, Query, Segment, StateKey
from infinitic.storage.integrity import check_head, check_segment
from infinitic_storages.memory import Database

MOST_SHOWN = 2_000
"""Characters of an outcome in a report."""

_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def show_outcome(outcome: object) -> str:
    """Show an outcome as text that is the same in every process: without addresses, sets sorted."""
    lines = pprint.pformat(outcome, width=1, sort_dicts=False).splitlines()
    return _ADDRESS.sub("", " ".join(line.strip() for line in lines))


def show_start(outcome: object) -> str:
    """Show an outcome, but only the start of a long one."""
    text = show_outcome(outcome)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


def show_both(plain: object, outcome: object) -> str:
    """Show an outcome that is wrong below that of the run without faults, in two lines."""
    return f"  without faults: {show_start(plain)}\n  with faults:    {show_start(outcome)}"


def digest_outcome(outcome: object, database: Database) -> str:
    """Make a digest of an outcome, and of all heads and histories in a database."""
    digest = blake2b(show_outcome(outcome).encode(errors="backslashreplace"), digest_size=16)
    cursor: str | None = None
    while True:
        page = database.find(Query(limit=500, cursor=cursor))
        stored = database.load([found.key for found in page.found])
        for key, each in stored.items():
            digest.update(f"\0{key.name}\0{key.id}\0{each.version}\0".encode())
            digest.update(_read_head(check_head(key, each).head))
            for segment in database.history(key, limit=1_000_000):
                digest.update(_without_tracebacks(_read_events(key, segment)))
        cursor = page.cursor
        if cursor is None:
            return digest.hexdigest()


def _read_head(stored: bytes) -> bytes:
    """Remove the digest of a decision, which may contain tracebacks."""
    try:
        return state.encode(replace(state.decode(stored), digest=""))
    except DecodingError:
        return stored


def _read_events(key: StateKey, segment: Segment) -> bytes:
    try:
        return check_segment(key, segment).events
    except DamagedState:
        return segment.events


def _without_tracebacks(stored: bytes) -> bytes:
    """Remove the tracebacks of failures: each version of Python formats them in its own way."""
    if b'"traceback"' not in stored:
        return stored
    try:
        return msgspec.json.encode(_drop_tracebacks(msgspec.json.decode(stored)))
    except msgspec.DecodeError:
        # Damaged.
        return stored


def _drop_tracebacks(value: object) -> object:
    if isinstance(value, dict):
        items = cast("dict[str, object]", value).items()
        return {name: _drop_tracebacks(each) for name, each in items if name != "traceback"}
    if isinstance(value, list):
        return [_drop_tracebacks(each) for each in cast("list[object]", value)]
    return value
