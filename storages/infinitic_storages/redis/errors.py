"""What a driver's error means in the words of the port."""

from __future__ import annotations

import re

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    ClusterCrossSlotError,
    ClusterDownError,
    ClusterError,
    NoPermissionError,
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)

from infinitic.errors import StorageError
from infinitic.storage import StorageConfigurationError, StorageOutcomeUnknown, StorageUnavailable

_CREDENTIALS = (AuthenticationError, AuthenticationWrongNumberOfArgsError, AuthorizationError)
_PASSING = (ClusterDownError, TryAgainError)  # MASTERDOWN is a ClusterDownError, which any replica may answer

REPLIES = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)
"""Error replies of the server, which the driver takes in part for failures of the connection."""

ELSEWHERE = (ReadOnlyError, *_PASSING, AuthenticationError, AuthorizationError, BusyLoadingError)
"""Replies after which a new connection may do better."""

_BEFORE = (OutOfMemoryError, ReadOnlyError, NoScriptError, AskError, ClusterCrossSlotError, *_PASSING, *REPLIES[1:])
_CODES = re.compile(r"(?:^|: -)(?:BUSY|MISCONF|NOREPLICAS|OOM|READONLY) ")  # within another text: Redis 6.2
_NO_PERMISSION = re.compile(r"The user executing the script can't |ACL failure in script")


def untouched(reply: RedisError) -> bool:
    """Whether an error reply is known to come before the first write of a script: Redis undoes nothing."""
    if isinstance(reply, NoPermissionError):
        return "script" not in str(reply)  # the script as a whole was refused
    return isinstance(reply, _BEFORE) or _CODES.search(str(reply)) is not None


def translate(error: BaseException, where: str, *, sent: bool = False) -> StorageError:
    """The error to raise. `sent`: a change may have arrived, and no answer tells that it did not."""
    text = str(error) or type(error).__name__
    server = f"Redis at {where}"
    if sent:
        return StorageOutcomeUnknown(f"The answer of {server} to a commit was lost: {text}")
    if isinstance(error, _CREDENTIALS):
        return StorageConfigurationError(
            f"{server} refuses the credentials ({text}): check `username` and `password` of the storage"
        )
    if isinstance(error, NoPermissionError) or _NO_PERMISSION.search(text):
        return StorageConfigurationError(
            f"{server} does not permit a command ({text}): give the user of the storage +@all but -@dangerous, "
            "+info, and its keys"
        )
    if isinstance(error, _PASSING):
        return StorageUnavailable(f"{server} is in the middle of a failover: {text}")
    if isinstance(error, ClusterError | AskError | ClusterCrossSlotError):
        return StorageConfigurationError(
            f"{server} is a Redis Cluster ({text}), which is not supported: use one server, or Sentinel"
        )
    if text.startswith(("DB index is out of range", "ERR DB index")) or text == "Invalid Database":
        return StorageConfigurationError(f"{server} does not have this database ({text}): check `database`")
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return StorageConfigurationError(f"{server} has a certificate that is not trusted ({text}): check `tls`")
    if isinstance(error, BusyLoadingError):
        return StorageUnavailable(f"{server} is loading its data: {text}")
    if isinstance(error, ResponseError):
        return StorageUnavailable(f"{server} answers with an error: {text}")
    if isinstance(error, RedisError | OSError | TimeoutError):
        return StorageUnavailable(f"{server} cannot be reached: {text}")
    return StorageUnavailable(f"{server} failed: {text}")
