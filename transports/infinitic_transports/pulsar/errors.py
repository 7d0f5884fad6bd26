"""What a result of the client library means for who called."""

from __future__ import annotations

from infinitic.errors import TransportError
from infinitic.transport import TransportClosed, TransportUnavailable, UnknownTopic

_AWAY = {
    "Timeout",
    "LookupError",
    "ConnectError",
    "ReadError",
    "BrokerMetadataError",
    "BrokerPersistenceError",
    "ChecksumError",
    "ConsumerBusy",
    "ConsumerAssignError",
    "NotConnected",
    "ProducerBusy",
    "ProducerFenced",
    "ProducerNotInitialized",
    "ConsumerNotInitialized",
    "TooManyLookupRequestException",
    "ServiceUnitNotReady",
    "ProducerBlockedQuotaExceededError",
    "ProducerBlockedQuotaExceededException",
    "ProducerQueueIsFull",
    "MemoryBufferIsFull",
    "Interrupted",
    "UnknownError",
}
_GONE = {"TopicNotFound", "TopicTerminated", "SubscriptionNotFound"}
_ADVICE = {
    "AuthenticationError": "the broker does not accept who this client says it is: look at `authentication`",
    "ErrorGettingAuthenticationData": "the credentials of `authentication` cannot be obtained",
    "AuthorizationError": "the role of this client lacks the permission to produce and consume in the namespace",
    "UnsupportedVersionError": "the broker is too old: Pulsar 4.0.13 or newer is needed",
    "ProducerBlockedQuotaExceededError": "the backlog quota of the namespace is used up",
    "ProducerBlockedQuotaExceededException": "the backlog quota of the namespace is used up",
}


def error_of(result: str, what: str, where: str, detail: str = "") -> TransportError:
    """The error for a result that is not Ok. `what` is what failed, `where` the broker."""
    advice = _ADVICE.get(result)
    text = f"{what} failed at {where}: {result}" + "".join(f"; {each}" for each in (detail, advice) if each)
    if result in _GONE:
        return UnknownTopic(text)
    if result in _AWAY:
        return TransportUnavailable(text)
    if result == "AlreadyClosed":
        return TransportClosed(text)
    return TransportError(text)
