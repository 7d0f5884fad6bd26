"""Which failures may be the fault of a message: it is tried again for a minute. All others are waited out."""

from __future__ import annotations

from infinitic.engines import state
from infinitic.errors import MissingDriverError, PayloadUnavailable, TransportError
from infinitic.messages.decoding import UnknownMessageType
from infinitic.runtime.versions import MissingVersion
from infinitic.storage import STORAGE_OUTAGES, DamagedState
from infinitic.transport import MessageTooLarge, TransportClosed, TransportUnavailable

UNCOUNTED = (
    TransportClosed,
    TransportUnavailable,
    *STORAGE_OUTAGES,
    MissingVersion,
    MissingDriverError,
    PayloadUnavailable,
    UnknownMessageType,
    state.NewerSchema,
    DamagedState,
)
"""Failures that say nothing about the message: they are tried again for ever."""

OUTAGES = (TransportClosed, TransportUnavailable, *STORAGE_OUTAGES)
"""Failures that tell of broker or storage as a whole."""


def is_counted(error: Exception) -> bool:
    """Whether a failure may be the fault of a message. What a broker refuses for a reason of its own is not."""
    if isinstance(error, UNCOUNTED):
        return False
    return isinstance(error, MessageTooLarge) or not isinstance(error, TransportError)
