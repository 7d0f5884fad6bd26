"""Why a tag engine refuses a message."""

from __future__ import annotations

from infinitic.errors import InfiniticError


class TooOld(InfiniticError):
    """A message is older than the deduplication window.

    What it changes may have been changed back since, and that may be forgotten by now.

    Args:
        window: the deduplication window, in seconds.
    """

    def __init__(self, window: float) -> None:
        super().__init__(
            f"This message is older than the deduplication window of {window:.0f} s, so the engine cannot know what "
            "has become of it since. If it is still wanted, send it anew"
        )


class HeldByAnother(InfiniticError):
    """The custom id of a start that was a dead letter cannot be claimed again.

    Args:
        custom_id: the custom id.
        holder: the instance that holds it; None: this one held it, and has closed.
    """

    def __init__(self, custom_id: str, holder: str | None) -> None:
        who = "this instance has held it, and has closed" if holder is None else f"the instance {holder} holds it"
        super().__init__(f"The custom id {custom_id!r} cannot be claimed again: {who}")
