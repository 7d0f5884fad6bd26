"""What is written to a storage and read from it: states, changes and their outcomes, queries."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from infinitic.messages.outcomes import WorkflowStatus
from infinitic.storage.arguments import check_instant, check_limit, check_text, check_type
from infinitic.storage.errors import InvalidArgument
from infinitic.storage.keys import StateKey


class Stored(msgspec.Struct, frozen=True, gc=False):
    """The state of an instance, as `StateStorage.load` finds it.

    Attributes:
        version: the `expected` of the next change.
        head: opaque bytes. Empty if they are damaged.
        sequence: that of the last segment; 0 if there is none.
        published: whether the outbox of the last segment is known to have been published.
        damage: what is wrong with the head, if it is known to be damaged; otherwise empty.
    """

    version: int
    head: bytes
    sequence: int
    published: bool
    damage: str = ""


class Segment(msgspec.Struct, frozen=True, gc=False):
    """The events of one transition. A segment is written once, and never changed.

    Attributes:
        sequence: counts from 1, without gaps.
        events: opaque bytes.
        outbox: the messages that the transition caused, as opaque bytes; None if there are none, or
            if they were not asked for.
    """

    sequence: int
    events: bytes
    outbox: bytes | None = None


class Flag(StrEnum):
    """Why somebody should look at an instance."""

    STALLED = "stalled"
    """Its code cannot be run, or what is stored of it is damaged."""

    PARKED = "parked"
    """The engine fails at one of its messages, and its messages go to the dead letters."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """The facts of an instance by which it can be found.

    Times are in seconds since the Unix epoch.

    Attributes:
        status: what has become of it.
        started_at: when it started.
        version: the version of its workflow class; None while it has none.
        closed_at: when it ended; None while it runs.
        next_wake: when its earliest timer is due; None if it has none. An instance whose timer is
            overdue is found by it.
        flag: why somebody should look at it; None if nobody has to.
    """

    status: WorkflowStatus
    started_at: float
    version: int | None = None
    closed_at: float | None = None
    next_wake: float | None = None
    flag: Flag | None = None


def read_entry(
    status: str,
    started_at: float,
    version: int | None = None,
    closed_at: float | None = None,
    next_wake: float | None = None,
    flag: str | None = None,
) -> Entry:
    """Make an entry of what is stored, also if a newer release has written it.

    One instance that this release does not understand must not hide all others. A status that it
    does not know is shown as running or completed, and a flag that it does not know is left out.

    Args:
        status: see `Entry`, as it is stored.
        started_at: see `Entry`.
        version: see `Entry`.
        closed_at: see `Entry`.
        next_wake: see `Entry`.
        flag: see `Entry`, as it is stored.
    """
    try:
        known = WorkflowStatus(status)
    except ValueError:
        known = WorkflowStatus.RUNNING if closed_at is None else WorkflowStatus.COMPLETED
    shown = Flag(flag) if flag in _FLAGS else None
    return Entry(known, started_at, version, closed_at, next_wake, shown)


_FLAGS = frozenset(each.value for each in Flag)


class Change(msgspec.Struct, frozen=True, gc=False):
    """One transition of one instance. All of it is written, or nothing.

    Attributes:
        key: the instance.
        expected: the version that was loaded. None: the instance must not exist.
        version: the new version, larger than any before for this key. 64 bits, signed.
        head: the new head, which replaces the old one.
        at: when the change was made, in seconds since the Unix epoch. Its deduplication ids are
            kept from then on.
        segment: its sequence follows that of the last segment. None: the transition has no events.
        deduplication_ids: the ids of the inputs that it takes. None of them may be stored already
            for this key. Any Unicode text, of any length.
        published: whether there is nothing left to publish.
        entry: the new facts; None leaves them as they are.
        expires_at: when head and history may be removed, in seconds since the Unix epoch; None
            while the instance runs.
        first: segments before this one go with this change, since nobody needs them any more. At
            most that of the last segment. 0: all stay. Who writes it lets some hundred go at a
            time.
    """

    key: StateKey
    expected: int | None
    version: int
    head: bytes
    at: float
    segment: Segment | None = None
    deduplication_ids: tuple[str, ...] = ()
    published: bool = False
    entry: Entry | None = None
    expires_at: float | None = None
    first: int = 0


class Published(msgspec.Struct, frozen=True, gc=False):
    """Tells that the outbox of a version has been published.

    It changes nothing unless `version` is the current one.
    """

    key: StateKey
    version: int


class Written(msgspec.Struct, frozen=True, gc=False):
    """The change is stored, and survives a crash if `StorageCapabilities.durable`.

    Attributes:
        version: the version of the change.
    """

    version: int


class Lost(msgspec.Struct, frozen=True):
    """Nothing was written: the stored version is not the expected one.

    **The version is looked at before the deduplication ids.** So a change that is behind is `Lost`,
    and never a `Duplicate`. An engine that is behind has to load again. If it were told that an
    input is a duplicate, it would drop the input without knowing what came of it.

    Attributes:
        current: the stored version, also that of a remnant (see `StateStorage.purge`); None if
            there is neither instance nor remnant.
    """

    current: int | None


class Duplicate(msgspec.Struct, frozen=True):
    """Nothing was written: some of the inputs were taken before.

    Attributes:
        deduplication_ids: those of the change that are stored already.
    """

    deduplication_ids: tuple[str, ...]


class Refused(msgspec.Struct, frozen=True):
    """Nothing was written: this change can never be. Trying again does not help.

    Its version does not come after the stored one, its segment does not follow the last one, or its
    key is too long. `infinitic.storage.checks` has a function for each of the three.

    Attributes:
        reason: what is wrong, for people.
    """

    reason: str


Outcome = Written | Lost | Duplicate | Refused


_LONGEST_CURSOR = 10_000
"""Characters that a cursor has at most: those of a name, an id and a time, as JSON."""


class Query(msgspec.Struct, frozen=True):
    """Which entries to find. A condition that is None holds for every entry.

    Times are in seconds since the Unix epoch. The ends of ranges are not part of them.

    Attributes:
        name: the name of the workflow.
        status: what has become of the instance.
        started_after: it started after this time.
        started_before: it started before this time.
        overdue_at: it runs, and its `next_wake` is before this time.
        limit: how many entries a page has, from 1 to `MAX_LIMIT`.
        cursor: the `Page.cursor` of the page before; None begins.
        flag: why somebody should look at the instance.
        closed_after: it closed after this time.
        closed_before: it closed before this time.
        id_prefix: what its id begins with. It needs `name`: ids are in order within a name only.

    Names, status, flag and starts are found by an index. The other conditions are looked at in what
    these find.

    Raises:
        InvalidArgument: the limit is out of range, a time is no finite number, another condition
            has not the type that it should have, or a name is missing beside `id_prefix`. `find`
            raises it, too, for a cursor that it did not give.
    """

    name: str | None = None
    status: WorkflowStatus | None = None
    started_after: float | None = None
    started_before: float | None = None
    overdue_at: float | None = None
    limit: int = 100
    cursor: str | None = None
    flag: Flag | None = None
    closed_after: float | None = None
    closed_before: float | None = None
    id_prefix: str | None = None

    def __post_init__(self) -> None:
        check_limit("The limit of a page", self.limit)
        check_instant("started_after", self.started_after)
        check_instant("started_before", self.started_before)
        check_instant("overdue_at", self.overdue_at)
        check_instant("closed_after", self.closed_after)
        check_instant("closed_before", self.closed_before)
        check_text("The name", self.name)
        check_text("The beginning of an id", self.id_prefix)
        check_text("The cursor", self.cursor, _LONGEST_CURSOR)
        check_type("The status", self.status, WorkflowStatus)
        check_type("The flag", self.flag, Flag)
        if self.id_prefix is not None and self.name is None:
            raise InvalidArgument("A query for the beginning of an id needs the name of the workflow, too")

    def matches(self, key: StateKey, entry: Entry) -> bool:
        """Whether an entry is one that this query asks for, whatever its cursor.

        For adapters whose database cannot look at a condition.

        Args:
            key: the instance.
            entry: its facts.
        """
        if self.name is not None and key.name != self.name:
            return False
        if self.status is not None and entry.status is not self.status:
            return False
        if self.flag is not None and entry.flag is not self.flag:
            return False
        if self.started_after is not None and not entry.started_at > self.started_after:
            return False
        if self.started_before is not None and not entry.started_at < self.started_before:
            return False
        if self.closed_after is not None and (entry.closed_at is None or not entry.closed_at > self.closed_after):
            return False
        if self.closed_before is not None and (entry.closed_at is None or not entry.closed_at < self.closed_before):
            return False
        if self.id_prefix is not None and not key.id.startswith(self.id_prefix):
            return False
        if self.overdue_at is None:
            return True
        if entry.status is not WorkflowStatus.RUNNING or entry.next_wake is None:
            return False
        return entry.next_wake < self.overdue_at


class Found(msgspec.Struct, frozen=True):
    """One instance that a query found."""

    key: StateKey
    entry: Entry


class Page(msgspec.Struct, frozen=True):
    """What a query found.

    Attributes:
        found: newest start first; of equal starts, the greater name first, then the greater id.
        cursor: continues the query in the next one; None: there is no more.
    """

    found: list[Found]
    cursor: str | None


class StorageCapabilities(msgspec.Struct, frozen=True):
    """What an adapter promises, as data.

    Attributes:
        max_value: bytes of one head, of the events of a segment, or of its outbox.
        durable: whether what is written survives a crash of process and server.
        deduplication_window: seconds for which deduplication ids and remnants are kept, see
            `StateStorage.purge`.
    """

    max_value: int
    durable: bool
    deduplication_window: float
