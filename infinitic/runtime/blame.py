"""Which failures may be the fault of a message.

Such a message is tried again for a minute. Other failures are tried again for as long as they last.
"""

from __future__ import annotations

from infinitic.engines import state
from infinitic.errors import MissingDriverError, PayloadUnavailable, TransportError
from infinitic.messages.decoding import UnknownMessageType
from infinitic.runtime.versions import MissingVersion, NewerCode
from infinitic.storage import STORAGE_OUTAGES, DamagedState
from infinitic.transport import MessageTooLarge, TransportClosed, TransportUnavailable

UNCOUNTED = (
    TransportClosed,
    TransportUnavailable,
    *STORAGE_OUTAGES,
    MissingVersion,
    NewerCode,
    MissingDriverError,
    PayloadUnavailable,
    UnknownMessageType,
    state.NewerSchema,
    DamagedState,
)
"""Failures that say nothing about the message. It is tried again for as long as they last."""

OUTAGES = (TransportClosed, TransportUnavailable, *STORAGE_OUTAGES)
"""Failures of broker or storage as a whole: all messages have them."""


def is_counted(error: Exception) -> bool:
    """True if a failure may be the fault of the message, and so counts against it.

    A refusal does not count if its reason lies in the broker, not in the message.
    """
    if isinstance(error, UNCOUNTED):
        return False
    return isinstance(error, MessageTooLarge) or not isinstance(error, TransportError)
