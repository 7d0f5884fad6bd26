"""The Storage port: what the engines need of a database, and what every adapter has to keep.

For each workflow instance a storage keeps

- a small *head*, which is rewritten at each transition,
- a *history* of segments, one for each transition, which are never changed. Each has an *outbox*:
  the messages that the transition caused,
- *deduplication ids*, by which inputs are recognised when they come again,
- one *entry* of facts by which the instance can be found.

For each tag it keeps its members, and for each custom id the instance that holds it.

Heads, events and outboxes are opaque bytes here. The docstrings of `Storage`, `StateStorage` and
`TagStorage` are the contract. The conformance suite
(`infinitic_testing.conformance.StorageConformance`) tests it rule by rule.

Errors::

    StorageError
    ├── StorageUnavailable              the database cannot be reached now; try again
    ├── StorageOutcomeUnknown           a reply was lost: each change is whole or absent
    ├── ValueTooLarge                   above `StorageCapabilities.max_value`; nothing was written
    ├── DamagedState                    what is stored of one instance is not what was written
    ├── StorageConfigurationError       somebody has to correct something; waiting does not help
    │   └── StorageNotPrepared          the tables are missing: `prepare` makes them
    └── StorageClosed                   the storage has been closed

Arguments that no storage can take (a limit of 0, a time that is no number) are an
`InvalidArgument`, which is a `UsageError`. `infinitic.storage.checks` finds them; adapters call it
first.
"""

from infinitic.messages.outcomes import WorkflowStatus as WorkflowStatus
from infinitic.storage.arguments import MAX_LIMIT as MAX_LIMIT
from infinitic.storage.errors import (
    STORAGE_OUTAGES as STORAGE_OUTAGES,
    DamagedState as DamagedState,
    InvalidArgument as InvalidArgument,
    StorageClosed as StorageClosed,
    StorageConfigurationError as StorageConfigurationError,
    StorageNotPrepared as StorageNotPrepared,
    StorageOutcomeUnknown as StorageOutcomeUnknown,
    StorageUnavailable as StorageUnavailable,
    ValueTooLarge as ValueTooLarge,
)
from infinitic.storage.keys import StateKey as StateKey
from infinitic.storage.port import StateStorage as StateStorage, Storage as Storage
from infinitic.storage.tags import (
    Claim as Claim,
    TagChange as TagChange,
    TagKey as TagKey,
    TagKind as TagKind,
    TagStorage as TagStorage,
)
from infinitic.storage.values import (
    Change as Change,
    Duplicate as Duplicate,
    Entry as Entry,
    Flag as Flag,
    Found as Found,
    Lost as Lost,
    Outcome as Outcome,
    Page as Page,
    Published as Published,
    Query as Query,
    Refused as Refused,
    Segment as Segment,
    StorageCapabilities as StorageCapabilities,
    Stored as Stored,
    Written as Written,
    read_entry as read_entry,
)

__all__ = [
    "MAX_LIMIT",
    "STORAGE_OUTAGES",
    "Change",
    "Claim",
    "DamagedState",
    "Duplicate",
    "Entry",
    "Flag",
    "Found",
    "InvalidArgument",
    "Lost",
    "Outcome",
    "Page",
    "Published",
    "Query",
    "Refused",
    "Segment",
    "StateKey",
    "StateStorage",
    "Storage",
    "StorageCapabilities",
    "StorageClosed",
    "StorageConfigurationError",
    "StorageNotPrepared",
    "StorageOutcomeUnknown",
    "StorageUnavailable",
    "Stored",
    "TagChange",
    "TagKey",
    "TagKind",
    "TagStorage",
    "ValueTooLarge",
    "WorkflowStatus",
    "Written",
    "read_entry",
]
