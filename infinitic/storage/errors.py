"""The errors of the Storage port. The tree stands in the docstring of `infinitic.storage`."""

from __future__ import annotations

from infinitic.errors import StorageError, UsageError
from infinitic.storage.keys import StateKey


class StorageUnavailable(StorageError):
    """The database cannot be reached now. Trying again later may work.

    It says that nothing was written. For a write whose reply was lost, see `StorageOutcomeUnknown`.
    """


class StorageOutcomeUnknown(StorageError):
    """The reply to a commit was lost. Each of its changes is written as a whole or absent.

    A change that is absent now may still be written later: the database may be working on it. So do
    not send the commit again; `load` the keys and look.
    """


class ValueTooLarge(StorageError):
    """A head, the events or the outbox of a segment is larger than the database takes.

    Nothing of the commit was written.

    Args:
        size: bytes of the value.
        limit: bytes that are allowed, see `StorageCapabilities.max_value`.
        what: the value, as the subject of a sentence, such as "A head".
    """

    def __init__(self, size: int, limit: int, what: str) -> None:
        super().__init__(f"{what} of {size:,} bytes is above the limit of {limit:,} bytes")
        self.size = size
        self.limit = limit
        self.what = what

    def __reduce__(self) -> tuple[type[ValueTooLarge], tuple[int, int, str]]:
        return ValueTooLarge, (self.size, self.limit, self.what)


class StorageConfigurationError(StorageError):
    """The database refuses us, and waiting does not help: somebody has to correct something.

    Wrong credentials, a missing database, a missing permission, or the schema of a newer release.
    The text says what to do.
    """


class StorageNotPrepared(StorageConfigurationError):
    """The tables are missing, or are those of an older release: `prepare` the storage first.

    A worker does so when it starts, and so does the command ``infinitic migrate``. Storages that
    need no tables never raise it.

    Args:
        found: what is missing, in the words of the database.
    """

    def __init__(self, found: str) -> None:
        super().__init__(
            f"{found}: the tables are missing or old. Start a worker, or run `infinitic migrate`, which makes them"
        )
        self.found = found

    def __reduce__(self) -> tuple[type[StorageNotPrepared], tuple[str]]:
        return StorageNotPrepared, (self.found,)


class StorageClosed(StorageError):
    """The storage has been closed."""


class DamagedState(StorageError):
    """What is stored of one instance is missing, or is not what was written.

    Trying again does not help, and no message is to blame: somebody has to restore the data, for
    instance from a backup. Other instances are not affected.

    Args:
        key: the instance.
        what: what is damaged, as the subject of a sentence, such as "Segment 3".
        why: what is wrong with it, such as "it is missing".
    """

    def __init__(self, key: StateKey, what: str, why: str) -> None:
        super().__init__(f"{self.beginning(key)} {what}: {why}")
        self.key = key
        self.what = what
        self.why = why

    @staticmethod
    def beginning(key: StateKey) -> str:
        """The first sentence of the text. By it a stall is recognised as one by damage."""
        return f"What is stored of {key.name} {key.id} is damaged."

    def __reduce__(self) -> tuple[type[DamagedState], tuple[StateKey, str, str]]:
        return DamagedState, (self.key, self.what, self.why)


class InvalidArgument(UsageError, ValueError):
    """An argument that no storage can take. It is raised before the database is asked."""


STORAGE_OUTAGES = (StorageUnavailable, StorageOutcomeUnknown, StorageConfigurationError, StorageClosed)
"""Errors that concern the database as a whole, not one key or value: other keys fail alike."""
