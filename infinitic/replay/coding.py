"""Has the codec of a worker encode what workflow code sends.

What it refuses for good is recorded. In replay the code is told the same, whatever the codec would
say by then: it may be another one, with other keys or limits.
"""

from __future__ import annotations

from typing import Protocol

from infinitic.codec.payloads import Coder
from infinitic.errors import PayloadError, PayloadUnavailable
from infinitic.failures import fit_text
from infinitic.limits import STALL_REASON
from infinitic.messages.commands import Command, RefuseCall
from infinitic.replay.stops import StopActivation

_REFUSED = "A payload that its codec refuses"
"""What is refused, in the history."""


class Recording(Protocol):
    """What this needs of the recorder of an instance."""

    @property
    def replaying(self) -> bool:
        """True while the instance repeats what its history holds."""
        ...

    def next_recorded(self) -> Command | None:
        """The command that history holds next; None if there is none."""
        ...

    def record(self, command: Command) -> object:
        """Record a command, or in replay compare it with the recorded one."""
        ...

    def check_count(self) -> bool:
        """False if the code has asked for too much since it rested."""
        ...

    def interrupt(self, error: PayloadUnavailable) -> StopActivation:
        """Take note that the activation cannot be run now. Returns what is to be raised."""
        ...


def encode(recorder: Recording, coder: Coder, data: bytes, *, sends: bool, records: bool) -> bytes:
    """Encode a payload.

    Args:
        recorder: that of the instance whose code sends it.
        coder: the codec.
        data: the payload.
        sends: whether it is sent. In replay it is not. A codec that may wait is not called then: it
            would leave objects behind.
        records: whether commands are recorded.

    Raises:
        PayloadError: the codec can never encode it; in replay: it could not then.
        StopActivation: the codec cannot encode it now, or the code asks again and again.
    """
    if recorder.replaying:
        recorded = recorder.next_recorded()
        if isinstance(recorded, RefuseCall) and recorded.name == _REFUSED:
            recorder.record(recorded)
            raise PayloadError(recorded.reason)
    if coder.blocking and not sends:
        return data
    try:
        return coder.encode(data)
    except PayloadUnavailable as error:
        raise recorder.interrupt(error) from error
    except PayloadError as error:
        reason = fit_text(str(error), STALL_REASON)
        if records:
            recorder.record(RefuseCall(_REFUSED, reason))
            if not recorder.check_count():
                raise StopActivation from error
        raise PayloadError(reason) from error
