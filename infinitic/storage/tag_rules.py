"""What every storage of tags refuses and decides, said in one place for all adapters.

Arguments are checked before the database is asked. Then there is which of two changes counts, and
what becomes of a claim. All of it is pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isfinite
from typing import NamedTuple

from infinitic.storage import Claim, InvalidArgument, TagChange, TagKey, TagKind
from infinitic.storage.arguments import check_instant, check_limit
from infinitic.storage.checks import MAX_KEY_PART

MAX_MEMBER_ID = 600
"""Bytes of UTF-8 that the id of a member may have. That is enough for the token of a task."""

_HIGHEST = 2**63 - 1


def check_tag_changes(changes: Sequence[TagChange]) -> None:
    """Check what `update` is given.

    Args:
        changes: the changes.

    Raises:
        InvalidArgument: one of them cannot be written; its text says why.
    """
    # Many changes are of one tag, which is checked once.
    checked: TagKey | None = None
    for change in changes:
        if change.key is not checked:
            check_tag_key(change.key)
            checked = change.key
        _check_member("TagChange.id", change.id)
        _check_version("TagChange.version", change.version)
        if not (type(change.at) is float and isfinite(change.at)):
            _require_instant("TagChange.at", change.at)
        if change.expires_at is not None:
            check_instant("TagChange.expires_at", change.expires_at)
        if type(change.live) is not bool:
            raise InvalidArgument(f"TagChange.live has to be True or False, not {change.live!r}")
        if change.live and change.key.kind is TagKind.CUSTOM_ID:
            raise InvalidArgument("Only a claim makes a member the holder of a custom id; an update can only remove it")


def check_members(key: TagKey, until: float | None, after: str, limit: int) -> None:
    """Check what `members` is asked for.

    Args:
        key: the tag.
        until: leaves out what was added later; None leaves out nothing.
        after: the last id of the page before; empty begins.
        limit: how many members.

    Raises:
        InvalidArgument: an argument is out of range.
    """
    check_tag_key(key)
    check_instant("until", until)
    if after != "":
        _check_member("after", after)
    check_limit("The limit of a page of members", limit)


def check_claim(key: TagKey, id: str, version: int, at: float) -> None:
    """Check what `claim` is given.

    Args:
        key: the custom id.
        id: the member that claims it.
        version: of the claim.
        at: when it was made.

    Raises:
        InvalidArgument: an argument is out of range, or the tag is no custom id.
    """
    check_tag_key(key)
    if key.kind is not TagKind.CUSTOM_ID:
        raise InvalidArgument(f"Only a custom id can be claimed, not a tag of the kind {key.kind.value!r}")
    _check_member("The id of a claim", id)
    _check_version("The version of a claim", version)
    _require_instant("The time of a claim", at)


def check_tag_key(key: TagKey) -> None:
    """Check the name of a tag.

    Args:
        key: the tag.

    Raises:
        InvalidArgument: its kind is no `TagKind`, or its name or tag is empty, too long or no text.
    """
    if type(key.kind) is not TagKind:
        raise InvalidArgument(f"TagKey.kind has to be a TagKind, not {key.kind!r}")
    _check_text("TagKey.name", key.name, MAX_KEY_PART)
    _check_text("TagKey.tag", key.tag, MAX_KEY_PART)


def keep_newest(changes: Iterable[TagChange]) -> dict[TagKey, dict[str, TagChange]]:
    """Of the changes of each member, keep the one that counts.

    A statement that writes many rows must not write one of them twice.

    Args:
        changes: of any members.

    Returns:
        One change for each member, by its tag, and then by its id.
    """
    newest: dict[TagKey, dict[str, TagChange]] = {}
    # Many changes are of one tag, which is looked up once.
    key: TagKey | None = None
    members: dict[str, TagChange] = {}
    for change in changes:
        if change.key is not key:
            key = change.key
            members = newest.setdefault(key, {})
        known = members.get(change.id)
        if known is None or is_newer(change, known.version, known.live):
            members[change.id] = change
    return newest


def is_newer(change: TagChange, version: int, live: bool) -> bool:
    """Whether a change counts, and not what is known of its member.

    Args:
        change: the change.
        version: of what is known.
        live: whether the member is live by what is known.
    """
    return change.version > version or (change.version == version and live and not change.live)


def compute_expiry(change: TagChange, deduplication_window: float) -> float | None:
    """When a member goes once a change is written, in seconds since the Unix epoch. None: never.

    Args:
        change: what is written.
        deduplication_window: seconds for which removed members are remembered.
    """
    if change.expires_at is not None or change.live:
        return change.expires_at
    return change.at + deduplication_window


class StoredMember(NamedTuple):
    """What is stored of a member.

    Attributes:
        version: of the change that counts.
        live: whether it has the tag.
        holder: who held the custom id when this member claimed it in vain; None: it did not.
    """

    version: int
    live: bool
    holder: str | None = None


class ClaimDecision(NamedTuple):
    """What becomes of a claim.

    Attributes:
        claim: what the caller is told.
        write: what is written of the claiming member; None: nothing.
    """

    claim: Claim
    write: StoredMember | None = None


def recall_claim(id: str, version: int, own: StoredMember | None) -> ClaimDecision | None:
    """Decide a claim by what is stored of the claiming member. None: that is not enough.

    Args:
        id: the member that claims.
        version: of the claim.
        own: what is stored of this member; None: nothing.
    """
    if own is None or own.version < version:
        return None
    if own.holder is not None:
        return ClaimDecision(Claim(own.holder, False))
    return ClaimDecision(Claim(id, own.live))


def decide_claim(id: str, version: int, own: StoredMember | None, holder: str | None) -> ClaimDecision:
    """Decide a claim.

    Args:
        id: the member that claims.
        version: of the claim.
        own: what is stored of this member; None: nothing.
        holder: the live member of the custom id; None: there is none.
    """
    known = recall_claim(id, version, own)
    if known is not None:
        return known
    if holder is None or holder == id:
        return ClaimDecision(Claim(id, True), StoredMember(version, True))
    return ClaimDecision(Claim(holder, False), StoredMember(0, False, holder) if version == 0 else None)


def _check_member(what: str, id: str) -> None:
    # The usual case comes first.
    if type(id) is str and id.isascii() and 0 < len(id) <= MAX_MEMBER_ID:
        return
    _check_text(what, id, MAX_MEMBER_ID)


def _check_text(what: str, text: str, longest: int) -> None:
    if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] (callers may not check types)
        raise InvalidArgument(f"{what} has to be text, not {type(text).__name__}")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise InvalidArgument(f"{what} is no Unicode text: it has a lone surrogate") from None
    if not size:
        raise InvalidArgument(f"{what} is empty")
    if size > longest:
        raise InvalidArgument(f"{what} has {size:,} bytes of UTF-8, and may have {longest}")


def _check_version(what: str, version: int) -> None:
    if type(version) is not int or not 0 <= version <= _HIGHEST:
        raise InvalidArgument(f"{what} has to be a whole number from 0 to 2**63 - 1")


def _require_instant(what: str, instant: float | None) -> None:
    if instant is None:
        raise InvalidArgument(f"{what} has to be a finite number of seconds, not None")
    check_instant(what, instant)
