"""What a result of the client library, or an answer of REST, means for the caller."""

from __future__ import annotations

import re

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
    "AuthenticationError": "the broker does not accept the credentials of this client: check `authentication`",
    "ErrorGettingAuthenticationData": "the credentials of `authentication` cannot be obtained",
    "AuthorizationError": "the role of this client lacks the permission to produce and consume in the namespace",
    "MessageTooBig": "it is above the maxMessageSize of the broker, which was lowered after this client connected",
    "TopicTerminated": "somebody ended it permanently (pulsar-admin topics terminate): remove it, and it is made again",
    "UnsupportedVersionError": "the broker is too old: Pulsar 4.0.13 or newer is needed",
    "ProducerBlockedQuotaExceededError": "the backlog quota of the namespace is used up",
    "ProducerBlockedQuotaExceededException": "the backlog quota of the namespace is used up",
}
_WRONG = (
    (r"mismatch, certificate is not valid", "the certificate is for another host: correct the URL, or add the host "
     "to the certificate (`tls.validate_hostname: false` accepts any)"),
    (r"(?i)certificate.verify.failed", "the certificate is not trusted, or is for another host: set `tls.trust_certs` "
     "to the file of its authority, and check the host of the URL"),
    (r"(?i)(wrong.version.number|illegal request line|record layer failure)", "one side uses TLS, and the other does "
     "not: correct the URL (pulsar+ssl: and https: use TLS) or its port"),
    (r"(Host not found \(authoritative\)|Name or service not known|nodename nor servname|No address associated)",
     "there is no such host: correct the URL"),
)  # fmt: skip


def make_error(result: str, what: str, where: str, detail: str = "") -> TransportError:
    """Make the error for a result that is not Ok.

    Args:
        result: the name of the result.
        what: what failed, such as "Publishing to a-topic".
        where: the URL of the broker.
        detail: what the library says about it.
    """
    advice = _ADVICE.get(result)
    text = f"{what} failed at {where}: {result}" + "".join(f"; {each.strip()}" for each in (detail, advice) if each)
    if result in _GONE:
        return UnknownTopic(text)
    if result in _AWAY:
        return TransportUnavailable(text)
    if result == "AlreadyClosed":
        return TransportClosed(text)
    return TransportError(text)


def advise_result(result: str) -> str:
    """What to do about a result of the library, or about a denial of the broker with that name.

    Empty if there is no advice.
    """
    return _ADVICE.get(result, "")


def advise_connection(text: str) -> str | None:
    """What to correct in the settings after this failure to connect; None if waiting may help."""
    return next((advice for pattern, advice in _WRONG if re.search(pattern, text)), None)


def advise_refusal(status: int, reason: str, tenant: str) -> str | None:
    """What to do about an answer of 401 or 403; None for other answers.

    Some brokers answer 401 when a permission is missing.

    Args:
        status: the status code.
        reason: what the broker says.
        tenant: that of the settings.
    """
    if status == 403 or (status == 401 and reason.startswith(("Unauthorized to", "Don't have permission"))):
        return (
            f"The role of this client lacks the permission: make it an admin of the tenant '{tenant}', with "
            f"`pulsar-admin tenants update {tenant} --admin-roles …` (to create a tenant, a super-user is needed)"
        )
    if status == 401:
        return "The broker does not accept the credentials of this client: check `authentication`"
    return None


def extract_reason(text: str) -> str:
    """The reason in the answer of a web server. Of an HTML page it is the title."""
    title = re.search(r"(?is)<title>(.*?)</title>", text)
    return " ".join((title[1] if title else text).split())[:300]
