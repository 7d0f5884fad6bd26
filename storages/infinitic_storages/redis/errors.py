"""What an error of the driver means in the terms of the port."""

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
# MASTERDOWN is a `ClusterDownError`, which any replica may answer.
_PASSING = (ClusterDownError, TryAgainError)

REPLIES = (ResponseError, AuthenticationError, AuthorizationError, BusyLoadingError)
"""Error replies of the server. The driver takes some of them for failures of the connection."""

ELSEWHERE = (ReadOnlyError, *_PASSING, AuthenticationError, AuthorizationError, BusyLoadingError)
"""Replies after which a new connection may help."""

_BEFORE = (OutOfMemoryError, ReadOnlyError, NoScriptError, AskError, ClusterCrossSlotError, *_PASSING, *REPLIES[1:])
# Redis 6.2 puts these codes within another text.
_CODES = re.compile(r"(?:^|: -)(?:BUSY|MISCONF|NOREPLICAS|OOM|READONLY) ")
_NO_PERMISSION = re.compile(r"The user executing the script can't |ACL failure in script")


def is_untouched(reply: RedisError) -> bool:
    """Whether an error reply certainly came before a script wrote anything.

    Redis does not undo what a failed script has written.
    """
    if isinstance(reply, NoPermissionError):
        # Otherwise the script as a whole was refused.
        return "script" not in str(reply)
    return isinstance(reply, _BEFORE) or _CODES.search(str(reply)) is not None


def translate(error: BaseException, where: str, *, sent: bool = False) -> StorageError:
    """Make the error to raise.

    Args:
        error: of the driver.
        where: the address of the server.
        sent: whether a change may have arrived, and no answer says that it did not.
    """
    text = str(error) or type(error).__name__
    server = f"Redis at {where}"
    if sent:
        return StorageOutcomeUnknown(f"The reply of {server} to a commit was lost: {text}")
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
        return StorageUnavailable(f"{server} is failing over to another server: {text}")
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
