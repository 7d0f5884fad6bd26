"""The tags of a storage: who has a tag, and which workflow holds a custom id.

A *member* is an id that has a tag: the id of a workflow instance, or the token of a task. A custom
id is a tag that at most one member has at any time. Messages that add and remove members may come
late, twice and in any order. So each of them has a version, and of one member the change with the
highest version counts. A removed member is remembered until the deduplication window is over.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from enum import StrEnum

import msgspec


class TagKind(StrEnum):
    """What has a tag. Tags of different kinds are different tags."""

    WORKFLOW = "workflow"
    """Instances of a workflow."""

    CUSTOM_ID = "custom_id"
    """At most one instance of a workflow at a time. Only `TagStorage.claim` adds members."""

    TASK = "task"
    """Tasks of a service."""


class TagKey(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Names one tag. Keys are compared exactly, as those of instances: see `StateKey`.

    Attributes:
        kind: what has the tag.
        name: the name of the workflow or of the service, any Unicode text of 1 to 255 bytes of
            UTF-8.
        tag: the tag or the custom id, likewise.
    """

    kind: TagKind
    name: str
    tag: str


class TagChange(msgspec.Struct, frozen=True, gc=False):
    """Adds a member to a tag, or removes it.

    Attributes:
        key: the tag.
        id: the member, any Unicode text of 1 to 600 bytes of UTF-8.
        live: True adds the member, False removes it.
        version: of the changes of one member, the one with the highest version counts. From 0 to
            2**63 - 1. Of two with one version, a removal counts; otherwise the stored one stays.
        at: since when the member has the tag, or has it no more; in seconds since the Unix epoch.
            A repeat has the same. `TagStorage.members` leaves out those that were added later.
        expires_at: when the member may be removed, in seconds since the Unix epoch. None: a removed
            one goes when the deduplication window is over, counted from `at`; a live one stays.
    """

    key: TagKey
    id: str
    live: bool
    version: int
    at: float
    expires_at: float | None = None


class Claim(msgspec.Struct, frozen=True, gc=False):
    """What has become of a claim.

    Attributes:
        id: the member that the claim leads to: the claiming one, or the holder at the time of its
            first claim.
        granted: whether the claiming member holds the custom id now. If not, nothing is to be
            started: `id` names the instance that was started instead, or the claiming one, which
            has held the custom id before and has given it back.
    """

    id: str
    granted: bool


class TagStorage(ABC):
    """Members of tags, and holders of custom ids.

    Errors, concurrency and cancelling are as those of `StateStorage`. To call again is always
    right, also after `StorageOutcomeUnknown` and after a cancel: a repeat changes nothing.
    """

    __slots__ = ()

    @abstractmethod
    async def update(self, changes: Sequence[TagChange]) -> None:
        """Add and remove members, in bulk.

        Each change is written as a whole or has no effect. They are not written as one: after an
        error, some of them may be there. Changes end alike in whatever order they come, and however
        often.

        Args:
            changes: any number, also several of one member, also none. Those that add a custom id
                are refused: only `claim` can see to it that there is one holder.

        Raises:
            InvalidArgument: a key or an id is empty, too long or no Unicode text, a number or a
                time is out of range, or a change adds a custom id. Nothing was written.
            StorageUnavailable: nothing was written, for certain.
            StorageOutcomeUnknown: some of the changes may be written, and others not.
        """

    @abstractmethod
    async def members(
        self, key: TagKey, *, until: float | None = None, after: str = "", limit: int = 1000
    ) -> list[str]:
        """Read a page of the live members of a tag, in the order of the bytes of their ids.

        A member that stays, and was added by `until`, is in exactly one of the pages. It takes the
        memory of one page, however many members there are.

        Args:
            key: the tag.
            until: leaves out the members that were added after this time, by `TagChange.at`. In
                seconds since the Unix epoch; None: there are none to leave out.
            after: the last id of the page before; empty begins.
            limit: how many, from 1 to `MAX_LIMIT`.

        Returns:
            The members. If there are fewer than `limit`, there are no more.

        Raises:
            InvalidArgument: an argument is out of range.
        """

    @abstractmethod
    async def count(self, key: TagKey) -> int:
        """Count the live members of a tag.

        Args:
            key: the tag.

        Raises:
            InvalidArgument: the key is empty, too long or no Unicode text.
        """

    @abstractmethod
    async def claim(self, key: TagKey, id: str, version: int, at: float) -> Claim:
        """Claim a custom id for a member. Of many that claim at once, exactly one gets it.

        1. If what is stored of this member is as new as `version`, or newer, nothing is written.
           The claim is told what it was told the first time, or that the member was removed since.
        2. Otherwise, if another member is live, the claim leads to that one. With `version` 0 that
           is remembered for this member, until the deduplication window is over.
        3. Otherwise the member is live from now on, with this version. `update` frees the custom
           id again, by a removal with a higher version.

        All of it is one step: it takes a transaction with a lock, or a script on the server.

        Args:
            key: the custom id. Its kind is `TagKind.CUSTOM_ID`.
            id: the member, see `TagChange.id`.
            version: of the claim, see `TagChange.version`.
            at: when the claim was made, in seconds since the Unix epoch.

        Raises:
            InvalidArgument: an argument is out of range, or the tag is of another kind.
            StorageUnavailable: nothing was written, for certain.
            StorageOutcomeUnknown: the reply was lost. A repeat is told what came of it.
        """

    @abstractmethod
    async def purge(self, now: float, limit: int = 1000) -> int:
        """Remove members that have expired, see `TagChange.expires_at`, in bounded steps.

        A member may be told to stay at the same moment. So look at its expiry in the statement that
        deletes it, not before.

        Args:
            now: the time, in seconds since the Unix epoch.
            limit: how many members at most, from 1 to `MAX_LIMIT`.

        Returns:
            How many members were removed. Call it again until it returns less than `limit`.

        Raises:
            InvalidArgument: `now` is no finite number, or the limit is out of range.
        """
