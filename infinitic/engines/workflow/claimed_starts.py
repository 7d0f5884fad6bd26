"""Starts with a custom id that come late: has the instance still got its custom id?

The tag engine sends such a start once it has claimed the custom id. If the start becomes a dead
letter, the custom id is freed, and another instance may get it. A stray copy of the start could
come after that. So the tag engine is asked once more before an instance is made of an old start.
"""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Raw

from infinitic import topics
from infinitic.engines.effects import ClaimFirst
from infinitic.messages import engine as inputs
from infinitic.messages.tags import StartUnique, encode, make_custom_id_key
from infinitic.transport import Message, Outgoing

CLAIMED = "infinitic-claimed"
"""The header of a start that says when the tag engine has sent it, in seconds since the Unix epoch.

After a comma comes how often it has asked before.
"""

FRESH_SECONDS = 30.0
"""So long after that the custom id cannot be freed yet: a start is tried for a minute before it
becomes a dead letter. The rest is for clocks that differ."""

MOST_CLAIMS = 3
"""How often the tag engine is asked. Where starts wait for minutes, each of them is an old one."""


def claim_first(message: inputs.Start, now: float, headers: Mapping[str, str]) -> ClaimFirst | None:
    """Have the tag engine asked before an instance is made of a start; None if that is not needed.

    Args:
        message: the start, of an instance that does not exist.
        now: seconds since the Unix epoch.
        headers: those of the message.
    """
    if not message.custom_id or CLAIMED not in headers:
        # Older releases do not say when they have claimed it.
        return None
    asked = count_claims(headers)
    try:
        claimed = float(headers[CLAIMED].partition(",")[0])
    except ValueError:
        return None
    return None if now - claimed <= FRESH_SECONDS or asked >= MOST_CLAIMS else ClaimFirst(asked + 1)


def count_claims(headers: Mapping[str, str]) -> int:
    """Count how often the tag engine was asked once more, by the headers of a message."""
    count = headers.get(CLAIMED, "").partition(",")[2]
    return int(count) if count.isdecimal() and len(count) < 3 else 0


def note_claim(now: float, asked: int) -> Mapping[str, str]:
    """Make the headers of a start whose custom id was claimed just now."""
    return {CLAIMED: f"{now!r},{asked}" if asked else repr(now)}


def render_claim_first(how: ClaimFirst, workflow: str, message: Message, start: inputs.Start) -> Outgoing:
    """Make the message that asks the tag engine.

    Args:
        how: what is to be sent.
        workflow: the name of the workflow.
        message: the message with the start. Its key is the id of the instance.
        start: the start.
    """
    workflow_id = message.key or ""
    unique = StartUnique(made_at=start.made_at, id=workflow_id, start=Raw(message.body))
    key = make_custom_id_key(start.custom_id)
    headers = note_claim(start.made_at, how.asked)
    return Outgoing(topics.workflow_tag(workflow), Message(workflow_id, key, encode(unique), headers))
