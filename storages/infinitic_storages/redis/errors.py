"""What a driver's error means in the words of the port."""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    AuthorizationError,
    BusyLoadingError,
    ClusterError,
    MaxConnectionsError,
    NoPermissionError,
    RedisError,
    ResponseError,
)

from infinitic.errors import StorageError
from infinitic.storage import StorageConfigurationError, StorageOutcomeUnknown, StorageUnavailable

_CREDENTIALS = (AuthenticationError, AuthenticationWrongNumberOfArgsError, AuthorizationError)


def translate(error: BaseException, where: str, *, sent: bool = False) -> StorageError:
    """The error to raise. `sent`: a change may have arrived, so that only an answer tells it did not."""
    text = str(error) or type(error).__name__
    server = f"Redis at {where}"
    if isinstance(error, _CREDENTIALS):
        return StorageConfigurationError(
            f"{server} refuses the credentials ({text}): check `username` and `password` of the storage"
        )
    if isinstance(error, NoPermissionError):
        return StorageConfigurationError(
            f"{server} does not permit a command ({text}): give the user of the storage +@all but -@dangerous, "
            "+info, and its keys"
        )
    if isinstance(error, ClusterError) or text.startswith(("MOVED ", "CROSSSLOT ")):
        return StorageConfigurationError(
            f"{server} is a Redis Cluster ({text}), which is not supported: use one server, or Sentinel"
        )
    if text.startswith(("DB index is out of range", "ERR DB index")) or text == "Invalid Database":
        return StorageConfigurationError(f"{server} does not have this database ({text}): check `database`")
    if not sent and "CERTIFICATE_VERIFY_FAILED" in text:
        return StorageConfigurationError(f"{server} has a certificate that is not trusted ({text}): check `tls`")
    if isinstance(error, BusyLoadingError):
        return StorageUnavailable(f"{server} is loading its data: {text}")
    if isinstance(error, ResponseError):
        return StorageUnavailable(f"{server} answers with an error: {text}")
    if sent and not isinstance(error, MaxConnectionsError):
        return StorageOutcomeUnknown(f"The answer of {server} to a commit was lost: {text}")
    if isinstance(error, RedisError | OSError | TimeoutError):
        return StorageUnavailable(f"{server} cannot be reached: {text}")
    return StorageUnavailable(f"{server} failed: {text}")
